-- Send one message to the other end, exactly once.
-- KEYS  1 base of the object's keys
-- ARGV  1 the end that is to receive it ('a' or 'b')   2 party   3 number of this send by this party   4 expiry in ms
--       5 capacity in bytes   6 size of the message in bytes, its blob's included   7 message
-- Returns 1, 0 when that end is closed, 2 when it is sent and more than the capacity now waits: wait for room-<end>.
local base, to, state = KEYS[1], ARGV[1], KEYS[1] .. 'state'
local bytes, sent = 'bytes ' .. to, 'sent:' .. ARGV[2]
local known = redis.call('HMGET', state, 'closed ' .. to, bytes, sent)
if known[1] then return 0 end
local waiting = tonumber(known[2] or 0)
if known[3] ~= ARGV[3] then
  waiting = waiting + tonumber(ARGV[6])
  redis.call('RPUSH', base .. to, ARGV[7])
  redis.call('HSET', state, bytes, waiting, sent, ARGV[3])
  if tonumber(ARGV[4]) > 0 then redis.call('PEXPIRE', base .. to, ARGV[4]) end
end
if waiting <= tonumber(ARGV[5]) then return 1 end
redis.call('DEL', base .. 'room-' .. to)
return 2
