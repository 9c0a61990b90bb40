#!lua flags=allow-oom
-- The get of an item has come to its end: it is gone, and the first that waits for room is told. Once, however often run.
-- KEYS  1 base of the object's keys
-- ARGV  1 party   2 number of this get by this party (from 1)   3 number of items that the party now rightly has (a
--       JoinableQueue's, until task_done), those included that others have taken from it   4 maxsize   5 expiry in ms
-- Returns the number of items that wait.
local base = KEYS[1]
local taken, seen, ttl = base .. 'taken:' .. ARGV[1], base .. 'seen', tonumber(ARGV[5])
local waiting = redis.call('LLEN', base .. 'items')
local known = redis.call('HMGET', seen, 'got:' .. ARGV[1], 'moved:' .. ARGV[1])
if tonumber(known[1] or 0) >= tonumber(ARGV[2]) then return waiting end
if redis.call('HSET', seen, 'got:' .. ARGV[1], ARGV[2]) == 1 and ttl > 0 then redis.call('PEXPIRE', seen, ttl) end
while redis.call('LLEN', taken) + tonumber(known[2] or 0) > tonumber(ARGV[3]) do redis.call('RPOP', taken) end
if tonumber(ARGV[4]) > 0 and waiting < tonumber(ARGV[4]) then
  local party = redis.call('LPOP', base .. 'line')
  if party then
    redis.call('RPUSH', base .. 'room:' .. party, 1)
    if ttl > 0 then redis.call('PEXPIRE', base .. 'room:' .. party, ttl) end
  end
end
return waiting
