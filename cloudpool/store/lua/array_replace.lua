-- Replace a whole array, if it is still what the caller has read.
-- KEYS  1 base of the object's keys
-- ARGV  1 party   2 request number   3 expiry in ms (0: none)   4 SHA1 of what it was   5 what it shall be
-- Returns '' when done, 0 when it has changed, -1 when it is gone.
local base, ttl = KEYS[1], tonumber(ARGV[3])
local old = redis.call('GET', base .. 'items')
if not old then return -1 end
if redis.sha1hex(old) ~= ARGV[4] then return 0 end
redis.call('SET', base .. 'items', ARGV[5], 'KEEPTTL')
if redis.call('HSET', base .. 'done', ARGV[1], ARGV[2] .. ':') == 1 and ttl > 0 then
  redis.call('PEXPIRE', base .. 'done', ttl)
end
return ''
