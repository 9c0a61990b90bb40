-- Put one item, exactly once, if there is room.
-- KEYS  1 base of the object's keys
-- ARGV  1 party   2 number of this put by this party (from 1)   3 maxsize (0: no bound)   4 expiry in ms (0: none)
--       5 1 to join the line for room when there is none   6 item
-- Returns 1 when it is in, 0 when full, -1 when an earlier put of this party is missing (it must be sent again first).
local base, party, number, maxsize = KEYS[1], ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local seen = tonumber(redis.call('HGET', base .. 'seen', party) or 0)
if number <= seen then return 1 end
if number > seen + 1 then return -1 end
if maxsize > 0 and redis.call('LLEN', base .. 'items') >= maxsize then
  if ARGV[5] == '1' and not redis.call('LPOS', base .. 'line', party) then
    redis.call('DEL', base .. 'room:' .. party)
    redis.call('RPUSH', base .. 'line', party)
    if tonumber(ARGV[4]) > 0 then redis.call('PEXPIRE', base .. 'line', ARGV[4]) end
  end
  return 0
end
redis.call('RPUSH', base .. 'items', ARGV[6])
redis.call('HSET', base .. 'seen', party, number)
redis.call('HINCRBY', base .. 'state', 'unfinished', 1)
if tonumber(ARGV[4]) > 0 then
  for _, part in ipairs({'items', 'seen', 'state'}) do redis.call('PEXPIRE', base .. part, ARGV[4]) end
end
return 1
