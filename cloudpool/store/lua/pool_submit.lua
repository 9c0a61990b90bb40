-- Put tasks into the line, and beside them the function that they call. Requests of a thread are numbered: each runs once.
-- KEYS  1 base of the object's keys
-- ARGV  1 party   2 number of the request   3 expiry in ms (0: none)   4 function's token   5 function ('': is there)   6.. tasks
-- Returns 1 when done, 0 when it was done before, -1 when the pool is over.
local base, ttl = KEYS[1], tonumber(ARGV[3])
local tasks, functions, state = base .. 'tasks', base .. 'functions', base .. 'state'
if redis.call('HEXISTS', state, 'over') == 1 then return -1 end
local seen = 'seen:' .. ARGV[1]
if tonumber(redis.call('HGET', state, seen) or 0) >= tonumber(ARGV[2]) then return 0 end
redis.call('HSET', state, seen, ARGV[2])
if ARGV[5] ~= '' then redis.call('HSET', functions, ARGV[4], ARGV[5]) end
redis.call('RPUSH', tasks, unpack(ARGV, 6))
if ttl > 0 then
  for _, key in ipairs({tasks, functions, state}) do redis.call('PEXPIRE', key, ttl) end
end
return 1
