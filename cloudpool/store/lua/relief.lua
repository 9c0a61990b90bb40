#!lua flags=allow-oom
-- Run a command although the server is out of memory: it moves what is there, or is small and lets others go on.
-- KEYS  1 the command's first key
-- ARGV  1 the command   2.. its arguments
-- Returns what it returns.
return redis.call(unpack(ARGV))
