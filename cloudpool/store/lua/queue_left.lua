#!lua flags=allow-oom
-- The only reader of a queue is gone: what it was given ahead and has not got goes back to the head. Once, however often run.
-- KEYS  1 base of the object's keys
-- ARGV  1 number of the last batch that it has noted   2 a '1' for each item of that that it has got, else '0'
-- Returns the number of items put back.
local base, ahead, state, back = KEYS[1], KEYS[1] .. 'ahead', KEYS[1] .. 'state', 0
local is_noted = redis.call('HGET', state, 'batch') == ARGV[1]
for at = redis.call('LLEN', ahead), 1, -1 do
  if is_noted and string.sub(ARGV[2], at, at) == '1' then
    redis.call('RPOP', ahead)
  else
    redis.call('LMOVE', ahead, base .. 'items', 'RIGHT', 'LEFT')
    back = back + 1
  end
end
redis.call('HDEL', state, 'batch', 'claimed', 'reader')
return back
