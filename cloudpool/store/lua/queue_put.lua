-- Put items, each exactly once, if there is room; several at once only where there is no bound.
-- KEYS  1 base of the object's keys
-- ARGV  1 party   2 number of the first of these puts by this party (from 1)   3 maxsize (0: no bound)   4 expiry in ms (0: none)
--       5 1 to join the line for room when there is none   6.. items
-- Returns 1 when they are in, 0 when full, -1 when an earlier put of this party is missing (it must be sent again first).
local base, party, first, maxsize = KEYS[1], ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local seen, last = tonumber(redis.call('HGET', base .. 'seen', party) or 0), first + #ARGV - 6
if last <= seen then return 1 end
if first > seen + 1 then return -1 end
if maxsize > 0 and redis.call('LLEN', base .. 'items') >= maxsize then
  if ARGV[5] == '1' and not redis.call('LPOS', base .. 'line', party) then
    redis.call('DEL', base .. 'room:' .. party)
    redis.call('RPUSH', base .. 'line', party)
    if tonumber(ARGV[4]) > 0 then redis.call('PEXPIRE', base .. 'line', ARGV[4]) end
  end
  return 0
end
redis.call('RPUSH', base .. 'items', unpack(ARGV, 6 + seen + 1 - first))
redis.call('HSET', base .. 'seen', party, last)
redis.call('HINCRBY', base .. 'state', 'unfinished', last - seen)
if tonumber(ARGV[4]) > 0 then
  for _, part in ipairs({'items', 'seen', 'state'}) do redis.call('PEXPIRE', base .. part, ARGV[4]) end
end
return 1
