#!lua flags=allow-oom
-- Give a token back when the releasing thread holds none itself: another thread of its process may, or it is a signal.
-- KEYS  1 base of the object's keys
-- ARGV  1 party   2 bound (tokens that may be free at once; 0: no bound)   3 expiry in ms (0: none)
--       4 number of this request by this party
-- Returns 1 when given back, 0 when the bound is reached (released too many times).
local base, bound = KEYS[1], tonumber(ARGV[2])
local avail, state = base .. 'avail', base .. 'state'
if redis.call('HGET', state, 'request ' .. ARGV[1]) == ARGV[4] then return 1 end
local parties = redis.call('SMEMBERS', base .. 'parties')
local function take_from(party)
  local held = base .. 'held:' .. party
  if string.sub(redis.call('LINDEX', held, 0) or 's', 1, 1) == 's' then return false end -- nobody holds a signal
  redis.call('HINCRBY', state, 'moved:' .. party, 1)
  return redis.call('LPOP', held)
end
local process = string.match(ARGV[1], '^(.*/)')
local given = false
for _, party in ipairs(parties) do
  if not given and string.sub(party, 1, #process) == process then
    given = take_from(party)
    if given then redis.call('RPUSH', avail, given) end
  end
end
if not given then
  local free = redis.call('LLEN', avail) + tonumber(redis.call('HGET', state, 'spare') or 0)
  if bound > 0 and free >= bound then return 0 end
  redis.call('HSET', state, 'signal', 1)
  for _, party in ipairs(parties) do
    if not given and bound > 0 then given = take_from(party) end
  end
  redis.call('RPUSH', avail, 's' .. ARGV[1] .. ':' .. ARGV[4])
end
redis.call('HSET', state, 'request ' .. ARGV[1], ARGV[4])
if tonumber(ARGV[3]) > 0 then
  redis.call('PEXPIRE', avail, ARGV[3])
  redis.call('PEXPIRE', state, ARGV[3])
end
return 1
