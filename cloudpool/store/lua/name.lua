#!lua flags=allow-oom
-- Let a process open connections, unless the session is over.
-- KEYS  1 beat (string)   2 live (set of processes)
-- ARGV  1 process   2 expiry in ms (0: none)
-- Returns 1 when it is new there.
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
local new = redis.call('SADD', KEYS[2], ARGV[1])
if tonumber(ARGV[2]) > 0 then redis.call('PEXPIRE', KEYS[2], ARGV[2]) end
return new
