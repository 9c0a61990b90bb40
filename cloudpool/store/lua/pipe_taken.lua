#!lua flags=allow-oom
-- The receive of a message has come to its end: it is gone, and who waits for room is told.
-- KEYS  1 base of the object's keys
-- ARGV  1 party   2 the end ('a' or 'b')   3 capacity in bytes   4 size of the message in bytes   5 expiry in ms
--       6 number of this receipt by this party
-- Returns 1, or 0 when it had been run before.
local base, side, party = KEYS[1], ARGV[2], ARGV[1]
local number = 'got:' .. party
if tonumber(redis.call('HGET', base .. 'seen', number) or 0) >= tonumber(ARGV[6]) then return 0 end
if redis.call('HSET', base .. 'seen', number, ARGV[6]) == 1 and tonumber(ARGV[5]) > 0 then
  redis.call('PEXPIRE', base .. 'seen', ARGV[5])
end
redis.call('DEL', base .. 'taken-' .. side .. ':' .. party)
local waiting = redis.call('HINCRBY', base .. 'state', 'bytes ' .. side, -ARGV[4])
local room = base .. 'room-' .. side
if waiting <= tonumber(ARGV[3]) and waiting + tonumber(ARGV[4]) > tonumber(ARGV[3]) then
  redis.call('RPUSH', room, 1)
  if tonumber(ARGV[5]) > 0 then redis.call('PEXPIRE', room, ARGV[5]) end
end
return 1
