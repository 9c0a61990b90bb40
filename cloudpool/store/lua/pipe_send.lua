-- Send one message to the other end, exactly once.
-- KEYS  1 base of the object's keys
-- ARGV  1 the end that is to receive it ('a' or 'b')   2 party   3 number of this send by this party   4 expiry in ms
--       5 capacity in bytes   6 size of the message in bytes, its blob's included   7 message
-- Returns 1, 0 when that end is closed, 2 when it is sent and more than the capacity now waits: wait for room-<end>.
local base, to = KEYS[1], ARGV[1]
if redis.call('HGET', base .. 'state', 'closed ' .. to) then return 0 end
local waiting = tonumber(redis.call('HGET', base .. 'state', 'bytes ' .. to) or 0)
if redis.call('HGET', base .. 'seen', ARGV[2]) ~= ARGV[3] then
  redis.call('RPUSH', base .. to, ARGV[7])
  redis.call('HSET', base .. 'seen', ARGV[2], ARGV[3])
  waiting = redis.call('HINCRBY', base .. 'state', 'bytes ' .. to, ARGV[6])
  if tonumber(ARGV[4]) > 0 then
    redis.call('PEXPIRE', base .. to, ARGV[4])
    redis.call('PEXPIRE', base .. 'seen', ARGV[4])
  end
end
if waiting <= tonumber(ARGV[5]) then return 1 end
redis.call('DEL', base .. 'room-' .. to)
return 2
