-- Set a field of one of the session's hashes, unless the session is over: no hash is to be made anew that has gone with it.
-- KEYS  1 beat (string)   2 the hash
-- ARGV  1 field   2 value   3 expiry in ms from now on (0: as it is)   4 "NX": only a field that is not there, or ""
-- Returns 1 when the field has that value, 0 when it has another, -1 when the session is over.
if redis.call('EXISTS', KEYS[1]) == 0 then return -1 end
redis.call(ARGV[4] == 'NX' and 'HSETNX' or 'HSET', KEYS[2], ARGV[1], ARGV[2])
if tonumber(ARGV[3]) > 0 then redis.call('PEXPIRE', KEYS[2], ARGV[3]) end
return redis.call('HGET', KEYS[2], ARGV[1]) == ARGV[2] and 1 or 0
