#!lua flags=allow-oom
-- Stop waiting at a condition, woken or not. A wake-up that is not passed on stays until its waiter has the lock.
-- KEYS  1 base of the object's keys
-- ARGV  1 party   2 entry   3 'pass' to wake another in one's stead   4 expiry in ms (0: none)
-- Returns 1 when it had been woken, 0 when it had not.
local base = KEYS[1]
local line, wake, requests, left = base .. 'line', base .. 'wake:' .. ARGV[1], base .. 'requests', 'left:' .. ARGV[1]
if redis.call('LREM', line, 1, ARGV[2]) == 1 then return 0 end
if ARGV[3] ~= 'pass' then return redis.call('EXISTS', wake) end
if redis.call('HGET', requests, left) == ARGV[2] then return 1 end
local woken = redis.call('DEL', wake)
if woken == 1 then
  redis.call('HSET', requests, left, ARGV[2])
  if tonumber(ARGV[4]) > 0 then redis.call('PEXPIRE', requests, ARGV[4]) end
  local entry = redis.call('LPOP', line)
  if entry then
    local other = base .. 'wake:' .. string.match(entry, '^(.*):')
    redis.call('RPUSH', other, entry)
    if tonumber(ARGV[4]) > 0 then redis.call('PEXPIRE', other, ARGV[4]) end
  end
end
return woken
