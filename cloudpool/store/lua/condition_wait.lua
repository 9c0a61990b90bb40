#!lua flags=allow-oom
-- Join the line of a condition's waiters.
-- KEYS  1 base of the object's keys
-- ARGV  1 party   2 entry, unique to this wait (party:number)   3 expiry in ms (0: none)
-- Returns the number of waiters.
local line, wake = KEYS[1] .. 'line', KEYS[1] .. 'wake:' .. ARGV[1]
if not redis.call('LPOS', line, ARGV[2]) and redis.call('LINDEX', wake, 0) ~= ARGV[2] then
  redis.call('DEL', wake)
  redis.call('RPUSH', line, ARGV[2])
  if tonumber(ARGV[3]) > 0 then redis.call('PEXPIRE', line, ARGV[3]) end
end
return redis.call('LLEN', line)
