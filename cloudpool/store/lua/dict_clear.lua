#!lua flags=allow-oom
-- Take all keys out of a dict.
-- KEYS  1 base of the object's keys
-- ARGV  1 party   2 request number   3 expiry in ms (0: none)
-- Returns the messages of blobs that were values, each as <length>:<message>; -1 when the dict is gone.
local base, ttl = KEYS[1], tonumber(ARGV[3])
local version = redis.call('HGET', base .. 'order', '')
if not version then return -1 end
local blobs = {}
for _, old in ipairs(redis.call('HVALS', base .. 'values')) do
  if string.byte(old) == 98 then blobs[#blobs + 1] = #old .. ':' .. old end
end
blobs = table.concat(blobs)
redis.call('UNLINK', base .. 'values', base .. 'order')
redis.call('HSET', base .. 'order', '', version + 1)
redis.call('HSET', base .. 'done', ARGV[1], ARGV[2] .. ':' .. blobs)
if ttl > 0 then
  redis.call('PEXPIRE', base .. 'order', ttl)
  redis.call('PEXPIRE', base .. 'done', ttl)
end
return blobs
