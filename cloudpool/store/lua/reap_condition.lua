#!lua flags=allow-oom
-- A process is gone: it leaves the line, and a wake-up that it can no longer hear goes to the next waiter.
-- KEYS  1 base of the object's keys
-- ARGV  1 process   2 'dead' or 'ended'   3 expiry in ms (0: none)
-- Returns the number of wake-ups passed on.
local base, process, passed = KEYS[1], ARGV[1] .. '/', 0
local line = base .. 'line'
for _, entry in ipairs(redis.call('LRANGE', line, 0, -1)) do
  if string.sub(entry, 1, #process) == process then redis.call('LREM', line, 1, entry) end
end
for _, party in ipairs(redis.call('SMEMBERS', base .. 'parties')) do
  if string.sub(party, 1, #process) == process then
    if redis.call('DEL', base .. 'wake:' .. party) == 1 then
      local entry = redis.call('LPOP', line)
      if entry then
        local other = base .. 'wake:' .. string.match(entry, '^(.*):')
        redis.call('RPUSH', other, entry)
        if tonumber(ARGV[3]) > 0 then redis.call('PEXPIRE', other, ARGV[3]) end
        passed = passed + 1
      end
    end
    redis.call('SREM', base .. 'parties', party)
    redis.call('HDEL', base .. 'requests', party, 'left:' .. party)
  end
end
return passed
