#!lua flags=allow-oom
-- Forget the results that have been handled, and take the next ones. Counted from the pool's beginning: it bears repetition.
-- KEYS  1 base of the object's keys
-- ARGV  1 how many have been handled since the beginning   2 most to take   3 expiry in ms (0: none)
-- Returns the results that are taken and not handled: those of before, else the next ones.
local results, taken, state = KEYS[1] .. 'results', KEYS[1] .. 'collected', KEYS[1] .. 'state'
local handled, most = tonumber(ARGV[1]), tonumber(ARGV[2])
local new = handled - tonumber(redis.call('HGET', state, 'handled') or 0)
if new > 0 then
  redis.call('LTRIM', taken, new, -1)
  redis.call('HSET', state, 'handled', handled)
end
local shown = redis.call('LRANGE', taken, 0, -1)
if #shown == 0 then
  shown = redis.call('LRANGE', results, 0, most - 1)
  if #shown > 0 then
    redis.call('RPUSH', taken, unpack(shown))
    redis.call('LTRIM', results, #shown, -1)
    if tonumber(ARGV[3]) > 0 then redis.call('PEXPIRE', taken, ARGV[3]) end
  end
end
return shown
