#!lua flags=allow-oom
-- A party reads the queue, or looks at it.
-- KEYS  1 base of the object's keys
-- ARGV  1 party, or '' for one that may be any
-- Returns the number of those that do.
redis.call('SADD', KEYS[1] .. 'readers', ARGV[1])
return redis.call('SCARD', KEYS[1] .. 'readers')
