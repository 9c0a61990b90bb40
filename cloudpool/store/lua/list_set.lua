-- Replace one element of a list.
-- KEYS  1 base of the object's keys
-- ARGV  1 party   2 request number   3 expiry in ms (0: none)   4 index in the server's list   5 value
-- Returns the replaced message when it was a blob's, else ''; 0 when the index is out of range, -1 when the list is gone.
local base, ttl = KEYS[1], tonumber(ARGV[3])
local old = redis.call('LINDEX', base .. 'items', ARGV[4])
if not old or old == '' then return redis.call('EXISTS', base .. 'items') - 1 end
redis.call('LSET', base .. 'items', ARGV[4], ARGV[5])
if string.byte(old) ~= 98 then old = '' end
if redis.call('HSET', base .. 'done', ARGV[1], ARGV[2] .. ':' .. old) == 1 and ttl > 0 then
  redis.call('PEXPIRE', base .. 'done', ttl)
end
return old
