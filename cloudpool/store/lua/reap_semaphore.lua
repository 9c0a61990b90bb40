#!lua flags=allow-oom
-- A process is gone: what it held when it died goes on to the next waiter, marked with its pid, unless the semaphore is
-- used as a signal. What was given to it and never returned by its acquire goes on in any case.
-- KEYS  1 base of the object's keys
-- ARGV  1 process   2 'dead' or 'ended' (in order: what it holds it keeps, as with the stdlib)   3 expiry in ms (0: none)
--       4 pid   5.. party, number of tokens that it rightly held, of each that held some when the process ended
-- Returns the number of tokens passed on.
local base, process, dead, passed = KEYS[1], ARGV[1] .. '/', ARGV[2] == 'dead', 0
local avail, state, rightly = base .. 'avail', base .. 'state', {}
local signal = redis.call('HEXISTS', state, 'signal') == 1
for i = 5, #ARGV, 2 do rightly[ARGV[i]] = tonumber(ARGV[i + 1]) end
for _, party in ipairs(redis.call('SMEMBERS', base .. 'parties')) do
  if string.sub(party, 1, #process) == process then
    local held = base .. 'held:' .. party
    local number = redis.call('LLEN', held)
    local keep = dead and (signal and number or 0) or rightly[party] or 0
    for i = 1, number do
      local token = redis.call('LPOP', held)
      local heard = string.sub(token, 1, 1) ~= 's'
      if heard and i <= keep then
        redis.call('RPUSH', held, token)
      else
        redis.call('RPUSH', avail, dead and heard and 'd' .. ARGV[4] or token)
        passed = passed + 1
      end
    end
    redis.call('HDEL', state, 'request ' .. party, 'moved:' .. party)
    if redis.call('EXISTS', held) == 0 then redis.call('SREM', base .. 'parties', party) end
    if tonumber(ARGV[3]) > 0 then redis.call('PEXPIRE', held, ARGV[3]) end
  end
end
if passed > 0 and tonumber(ARGV[3]) > 0 then redis.call('PEXPIRE', avail, ARGV[3]) end
return passed
