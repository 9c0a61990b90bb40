-- How much is unfinished, and where in `done` to wait for the end of it.
-- KEYS  1 base of the object's keys
-- Returns {unfinished, id}.
local last = redis.call('XREVRANGE', KEYS[1] .. 'done', '+', '-', 'COUNT', 1)
return {tonumber(redis.call('HGET', KEYS[1] .. 'state', 'unfinished') or 0), last[1] and last[1][1] or '0'}
