#!lua flags=allow-oom
-- Give the only reader of a queue several items at once. The batch stays here until the next one: asked again, the same.
-- KEYS  1 base of the object's keys
-- ARGV  1 the reader   2 number of the batch (from 1), when the last one is got   3 most items   4 most bytes, but for the last item
-- Returns the items, behind the number of those that wait still; nothing when others read the queue too, or have.
local base, number, bytes, count = KEYS[1], tonumber(ARGV[2]), 0, 0
local items, ahead = base .. 'items', base .. 'ahead'
if tonumber(redis.call('HGET', base .. 'state', 'batch') or 0) < number then
  local is_recalled = redis.call('HEXISTS', base .. 'state', 'claimed') == 1
  if is_recalled or redis.call('SCARD', base .. 'readers') > 1 then return false end
  redis.call('DEL', ahead)
  for _, item in ipairs(redis.call('LRANGE', items, 0, ARGV[3] - 1)) do
    if bytes >= tonumber(ARGV[4]) then break end
    bytes, count = bytes + #item, count + 1
  end
  if count > 0 then redis.call('RPUSH', ahead, unpack(redis.call('LPOP', items, count))) end
  redis.call('HSET', base .. 'state', 'batch', number, 'reader', ARGV[1])
end
return {redis.call('LLEN', items), unpack(redis.call('LRANGE', ahead, 0, -1))}
