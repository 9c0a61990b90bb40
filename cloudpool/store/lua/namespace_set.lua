-- Set an attribute. The field '' is there as long as the namespace is; what a party has done last is beside the values.
-- KEYS  1 base of the object's keys
-- ARGV  1 party's field   2 request number   3 expiry in ms (0: none; the hash has its own)   4 name   5 value
-- Returns the replaced message when it was a blob's, else ''; -1 when the namespace is gone.
local values = KEYS[1] .. 'values'
local old = redis.call('HMGET', values, '', ARGV[4])
if not old[1] then return -1 end
local blob = old[2] and string.byte(old[2]) == 98 and old[2] or ''
redis.call('HSET', values, ARGV[4], ARGV[5], ARGV[1], ARGV[2] .. ':' .. blob)
return blob
