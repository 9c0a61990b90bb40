#!lua flags=allow-oom
-- Empty the log of shared memory, if no host reads it. It stays, so that its entries' numbers go on.
-- KEYS  1 readers (hash: how far each host has read)   2 blocks (stream: the log)
-- Returns how many entries are gone.
if redis.call('EXISTS', KEYS[1]) == 1 or redis.call('EXISTS', KEYS[2]) == 0 then
  return 0
end
return redis.call('XTRIM', KEYS[2], 'MAXLEN', 0)
