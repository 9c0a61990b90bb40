#!lua flags=allow-oom
-- What the only reader of a queue was given ahead and has not claimed goes back to the head. Whoever asks first says what it has.
-- KEYS  1 base of the object's keys
-- ARGV  1 the reader   2 number of the last batch that it has noted   3 how many of it it has claimed
-- Returns how many it has claimed: 0 of a batch that it has not noted, or when it is not the reader any more.
local base, ahead, state = KEYS[1], KEYS[1] .. 'ahead', KEYS[1] .. 'state'
local known = redis.call('HMGET', state, 'batch', 'reader')
if not known[1] or known[2] ~= ARGV[1] then return 0 end
if redis.call('HSETNX', state, 'claimed', known[1] == ARGV[2] and ARGV[3] or 0) == 1 then
  local claimed = tonumber(redis.call('HGET', state, 'claimed'))
  while redis.call('LLEN', ahead) > claimed do redis.call('LMOVE', ahead, base .. 'items', 'RIGHT', 'LEFT') end
end
return tonumber(redis.call('HGET', state, 'claimed'))
