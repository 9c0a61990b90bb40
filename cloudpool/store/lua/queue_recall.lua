#!lua flags=allow-oom
-- What the only reader of a queue was given and has not got goes back to the head. Once, however often run.
-- KEYS  1 base of the object's keys
-- ARGV  1 number of the last batch that the reader has noted   2 how many of it it has got
-- Returns the number of items put back.
local base, ahead = KEYS[1], KEYS[1] .. 'ahead'
local batch = tonumber(redis.call('HGET', base .. 'state', 'batch') or 0)
local got, back = batch == tonumber(ARGV[1]) and tonumber(ARGV[2]) or 0, 0
while redis.call('LLEN', ahead) > got do
  redis.call('LMOVE', ahead, base .. 'items', 'RIGHT', 'LEFT')
  back = back + 1
end
redis.call('DEL', ahead)
redis.call('HDEL', base .. 'state', 'batch')
return back
