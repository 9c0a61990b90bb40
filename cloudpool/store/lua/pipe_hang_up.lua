#!lua flags=allow-oom
-- The last handle of one end is gone: the other end reads what there is, then the end of the file; who waits for room
-- at the closed end is told.
-- KEYS  1 base of the object's keys
-- ARGV  1 the end ('a' or 'b')
-- Returns 1 when the other end is gone as well.
local base, side = KEYS[1], ARGV[1]
local other = side == 'a' and 'b' or 'a'
if redis.call('EXISTS', base .. 'state') == 0 then return 1 end
if redis.call('HSETNX', base .. 'state', 'closed ' .. side, 1) == 1 then
  redis.call('DEL', base .. side)
  redis.call('RPUSH', base .. other, '')
  redis.call('RPUSH', base .. 'room-' .. side, 1)
  local ttl = redis.call('PTTL', base .. 'state')
  if ttl > 0 then
    redis.call('PEXPIRE', base .. other, ttl)
    redis.call('PEXPIRE', base .. 'room-' .. side, ttl)
  end
end
return redis.call('HGET', base .. 'state', 'closed ' .. other) and 1 or 0
