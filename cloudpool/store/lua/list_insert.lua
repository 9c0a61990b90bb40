-- Insert one element into a list.
-- KEYS  1 base of the object's keys
-- ARGV  1 party   2 request number   3 expiry in ms (0: none)   4 index, as in Python   5 value
-- Returns '' when done, -1 when the list is gone.
local base, ttl = KEYS[1], tonumber(ARGV[3])
local items = base .. 'items'
local last = redis.call('LLEN', items) - 1 -- the '' is at 0
if last < 0 then return -1 end
local at = tonumber(ARGV[4])
at = at < 0 and math.max(at + last + 1, 1) or at + 1
if at > last then
  redis.call('RPUSH', items, ARGV[5])
else
  local there = redis.call('LINDEX', items, at)
  redis.call('LSET', items, at, 'x')
  redis.call('LINSERT', items, 'BEFORE', 'x', ARGV[5])
  redis.call('LSET', items, at + 1, there)
end
if redis.call('HSET', base .. 'done', ARGV[1], ARGV[2] .. ':') == 1 and ttl > 0 then
  redis.call('PEXPIRE', base .. 'done', ttl)
end
return ''
