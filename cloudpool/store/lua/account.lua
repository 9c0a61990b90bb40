-- What a party has in its own list, those included that others have taken out of it: this changes by its own doing alone.
-- KEYS  1 base of the object's keys
-- ARGV  1 part of the list   2 part of the hash that counts what others take   3 party
-- Returns {how many, the last one or ''}.
local own = KEYS[1] .. ARGV[1] .. ':' .. ARGV[3]
local moved = tonumber(redis.call('HGET', KEYS[1] .. ARGV[2], 'moved:' .. ARGV[3]) or 0)
return {redis.call('LLEN', own) + moved, redis.call('LINDEX', own, -1) or ''}
