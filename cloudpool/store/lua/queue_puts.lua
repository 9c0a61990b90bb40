-- Put items, each exactly once, into a queue without a bound, on a server where nothing expires.
-- KEYS  1 base of the object's keys
-- ARGV  1 party   2 number of the first of these puts by this party (from 1)   3.. items
-- Returns 1 when they are in, -1 when an earlier put of this party is missing (it must be sent again first), -2 when the
-- queue is gone.
local base, party, first, count = KEYS[1], ARGV[1], tonumber(ARGV[2]), #ARGV - 2
local counted = redis.call('HGET', base .. 'state', 'counted')
if not counted then return -2 end
local seen = redis.call('HINCRBY', base .. 'seen', party, count) - count
local old = seen + 1 - first
if old ~= 0 then
  redis.call('HSET', base .. 'seen', party, (old > 0 and old < count) and first + count - 1 or seen)
  if old < 0 then return -1 end
  if old >= count then return 1 end
end
redis.call('RPUSH', base .. 'items', unpack(ARGV, 3 + old))
if counted == '1' then redis.call('HINCRBY', base .. 'state', 'unfinished', count - old) end
return 1
