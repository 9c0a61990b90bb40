#!lua flags=allow-oom
-- Delete an attribute.
-- KEYS  1 base of the object's keys
-- ARGV  1 party's field   2 request number   3 expiry in ms (0: none; the hash has its own)   4 name
-- Returns its message; 0 when there is none, -1 when the namespace is gone.
local values = KEYS[1] .. 'values'
local old = redis.call('HMGET', values, '', ARGV[4])
if not old[1] then return -1 end
if not old[2] then return 0 end
redis.call('HDEL', values, ARGV[4])
redis.call('HSET', values, ARGV[1], ARGV[2] .. ':' .. old[2])
return old[2]
