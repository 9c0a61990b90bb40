#!lua flags=allow-oom
-- Wake the first waiters of a condition.
-- KEYS  1 base of the object's keys
-- ARGV  1 how many at most   2 expiry in ms (0: none)   3 party of the notifier   4 request number of that party
-- Returns the number woken.
local base, woken = KEYS[1], 0
local last = redis.call('HGET', base .. 'requests', ARGV[3])
if last == ARGV[4] then return 0 end
for _ = 1, tonumber(ARGV[1]) do
  local entry = redis.call('LPOP', base .. 'line')
  if not entry then break end
  local wake = base .. 'wake:' .. string.match(entry, '^(.*):')
  redis.call('RPUSH', wake, entry)
  if tonumber(ARGV[2]) > 0 then redis.call('PEXPIRE', wake, ARGV[2]) end
  woken = woken + 1
end
if woken > 0 then
  redis.call('HSET', base .. 'requests', ARGV[3], ARGV[4])
  if tonumber(ARGV[2]) > 0 then redis.call('PEXPIRE', base .. 'requests', ARGV[2]) end
end
return woken
