#!lua flags=allow-oom
-- Raise the session's counter, if it is where its agent left it: else the state of the session is not what it was.
-- KEYS  1 beat (string)
-- ARGV  1 what it was   2 what it shall be   3 expiry in ms from now on (0: as it is)
-- Returns 1 when it is raised, 0 when it is gone, -1 when it is another: older state has come back.
local now = redis.call('GET', KEYS[1])
if not now then return 0 end
if now ~= ARGV[1] and now ~= ARGV[2] then return -1 end
redis.call('SET', KEYS[1], ARGV[2], 'KEEPTTL')
if tonumber(ARGV[3]) > 0 then redis.call('PEXPIRE', KEYS[1], ARGV[3]) end
return 1
