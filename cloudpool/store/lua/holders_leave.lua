#!lua flags=allow-oom
-- A host holds an object no more.
-- KEYS  1 holders (set of hosts)
-- ARGV  1 the host
-- Returns how many hosts hold it still; -1 when this one was none of them.
if redis.call('SREM', KEYS[1], ARGV[1]) == 0 then return -1 end
return redis.call('SCARD', KEYS[1])
