#!lua flags=allow-oom
-- Set or clear an event, once: a late repetition must not undo what others have done since.
-- KEYS  1 base of the object's keys
-- ARGV  1 party   2 number of this request by this party   3 'set' or 'clear'   4 expiry in ms (0: none)
-- Returns 1, or 0 when it had been run before.
local flag, done = KEYS[1] .. 'flag', KEYS[1] .. 'done'
if redis.call('HGET', done, ARGV[1]) == ARGV[2] then return 0 end
redis.call('HSET', done, ARGV[1], ARGV[2])
if ARGV[3] == 'set' then
  redis.call('XADD', flag, 'MAXLEN', '1', '*', 'set', '1')
else
  redis.call('DEL', flag)
end
if tonumber(ARGV[4]) > 0 then
  redis.call('PEXPIRE', flag, ARGV[4])
  redis.call('PEXPIRE', done, ARGV[4])
end
return 1
