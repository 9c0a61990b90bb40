-- Replace one element of an array.
-- KEYS  1 base of the object's keys
-- ARGV  1 party   2 request number   3 expiry in ms (0: none)   4 index, as in Python   5 the element's bytes
-- Returns '' when done, 0 when the index is out of range, -1 when the array is gone.
local base, ttl, width = KEYS[1], tonumber(ARGV[3]), #ARGV[5]
local length = redis.call('STRLEN', base .. 'items') - 1 -- the typecode is at 0
if length < 0 then return -1 end
local at = tonumber(ARGV[4]) * width
if at < 0 then at = at + length end
if at < 0 or at >= length then return 0 end
redis.call('SETRANGE', base .. 'items', at + 1, ARGV[5])
if redis.call('HSET', base .. 'done', ARGV[1], ARGV[2] .. ':') == 1 and ttl > 0 then
  redis.call('PEXPIRE', base .. 'done', ttl)
end
return ''
