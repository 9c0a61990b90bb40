#!lua flags=allow-oom
-- Stop waiting for room; if it has been offered meanwhile, offer it to the next.
-- KEYS  1 base of the object's keys
-- ARGV  1 party   2 expiry in ms (0: none)
-- Returns 1 when room had been offered.
local base = KEYS[1]
redis.call('LREM', base .. 'line', 0, ARGV[1])
local offered = redis.call('DEL', base .. 'room:' .. ARGV[1])
if offered == 1 then
  local party = redis.call('LPOP', base .. 'line')
  if party then
    redis.call('RPUSH', base .. 'room:' .. party, 1)
    if tonumber(ARGV[2]) > 0 then redis.call('PEXPIRE', base .. 'room:' .. party, ARGV[2]) end
  end
end
return offered
