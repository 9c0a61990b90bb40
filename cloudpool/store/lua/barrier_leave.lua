#!lua flags=allow-oom
-- Take back an arrival whose thread was interrupted; nothing when its phase has ended.
-- KEYS  1 base of the object's keys
-- ARGV  1 entry
-- Returns 1 when taken back.
return redis.call('LREM', KEYS[1] .. 'line', 1, ARGV[1])
