#!lua flags=allow-oom
-- Say whether a process may open a connection: a dead one's late commands must never run.
-- KEYS  1 live (set of processes)
-- ARGV  1 process
-- Returns 1 when it may, 0 when it is dead or its session is over.
return redis.call('SISMEMBER', KEYS[1], ARGV[1])
