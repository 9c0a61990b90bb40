#!lua flags=allow-oom
-- The receive of a message has come to its end: it is gone, and who waits for room is told.
-- KEYS  1 base of the object's keys
-- ARGV  1 party   2 the end ('a' or 'b')   3 capacity in bytes   4 size of the message in bytes   5 expiry in ms
--       6 number of this receipt by this party
-- Returns 1, or 0 when it had been run before.
local base, side, state, size = KEYS[1], ARGV[2], KEYS[1] .. 'state', tonumber(ARGV[4])
local bytes, got = 'bytes ' .. side, 'got:' .. ARGV[1]
local known = redis.call('HMGET', state, got, bytes)
if tonumber(known[1] or 0) >= tonumber(ARGV[6]) then return 0 end
local waiting, capacity = tonumber(known[2] or 0) - size, tonumber(ARGV[3])
redis.call('HSET', state, got, ARGV[6], bytes, waiting)
redis.call('DEL', base .. 'taken-' .. side .. ':' .. ARGV[1])
if waiting <= capacity and waiting + size > capacity then
  local room = base .. 'room-' .. side
  redis.call('RPUSH', room, 1)
  if tonumber(ARGV[5]) > 0 then redis.call('PEXPIRE', room, ARGV[5]) end
end
return 1
