#!lua flags=allow-oom
-- Take one element out of a list.
-- KEYS  1 base of the object's keys
-- ARGV  1 party   2 request number   3 expiry in ms (0: none)   4 index, as in Python
-- Returns its value; 0 when the index is out of range, -1 when the list is gone, -2 when it is empty.
local base, ttl = KEYS[1], tonumber(ARGV[3])
local items, value = base .. 'items', nil
local last = redis.call('LLEN', items) - 1 -- the '' is at 0
if last < 0 then return -1 end
if last == 0 then return -2 end
local at = tonumber(ARGV[4])
at = at < 0 and at + last + 1 or at + 1
if at < 1 or at > last then return 0 end
if at == last then
  value = redis.call('RPOP', items)
else
  value = redis.call('LINDEX', items, at)
  redis.call('LSET', items, at, 'x')
  redis.call('LREM', items, at > last / 2 and -1 or 1, 'x')
end
if redis.call('HSET', base .. 'done', ARGV[1], ARGV[2] .. ':' .. value) == 1 and ttl > 0 then
  redis.call('PEXPIRE', base .. 'done', ttl)
end
return value
