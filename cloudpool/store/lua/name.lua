#!lua flags=allow-oom
-- Let a process open connections.
-- KEYS  1 live (set of processes)
-- ARGV  1 process   2 expiry in ms (0: none)
-- Returns 1 when it is new there.
local new = redis.call('SADD', KEYS[1], ARGV[1])
if tonumber(ARGV[2]) > 0 then redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
return new
