#!lua flags=allow-oom
-- Put more of a large semaphore's value into tokens. Idempotent enough: a second run mints what is wanted anyway.
-- KEYS  1 base of the object's keys
-- ARGV  1 how many tokens to make at most   2 expiry in ms (0: none)
-- Returns how many were made.
local spare = tonumber(redis.call('HGET', KEYS[1] .. 'state', 'spare') or 0)
local made = math.min(spare, tonumber(ARGV[1]))
for _ = 1, made do redis.call('RPUSH', KEYS[1] .. 'avail', 't') end
if made > 0 then
  redis.call('HSET', KEYS[1] .. 'state', 'spare', spare - made)
  if tonumber(ARGV[2]) > 0 then redis.call('PEXPIRE', KEYS[1] .. 'avail', ARGV[2]) end
end
return made
