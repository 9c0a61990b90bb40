#!lua flags=allow-oom
-- A worker is done with its first running tasks: record their results, and give it more of the line. Where results may
-- wait, it is given more first, if there is any, and nothing is recorded.
-- KEYS  1 base of the object's keys
-- ARGV  1 most tasks to take   2 party   3 workers   4 expiry in ms (0: none)   5 whom the results are for ('': the collector)
--       6 number of tasks   7 id of the first   8 their results, one element   9 1 if they may wait
-- Returns the tasks taken, or where none are wanted the number that wait; nil when that task is not the worker's first: it
-- was recorded before, or is not its own; or, where results may wait, when it was given more before.
-- No more than a fair share is taken, and a '.', which sends one worker home, only by itself.
local base, most, ttl = KEYS[1], tonumber(ARGV[1]), tonumber(ARGV[4])
local tasks, results, running = base .. 'tasks', base .. 'results', base .. 'running:' .. ARGV[2]
if ARGV[5] ~= '' then results = results .. ':' .. ARGV[5] end
local first = redis.call('LINDEX', running, 0)
if not first or string.sub(first, 1, #ARGV[7] + 1) ~= ARGV[7] .. ' ' then return false end
if ARGV[9] == '1' and redis.call('LLEN', running) ~= tonumber(ARGV[6]) then return false end
local waiting, taken = redis.call('LLEN', tasks), {}
if most > 1 then most = math.min(most, math.ceil(waiting / tonumber(ARGV[3]))) end
if most > 0 and waiting > 0 then taken = redis.call('LRANGE', tasks, 0, most - 1) end
for n = 2, #taken do
  if taken[n] == '.' then taken = {unpack(taken, 1, n - 1)} break end
end
if ARGV[9] ~= '1' or not taken[1] or taken[1] == '.' then
  redis.call('LTRIM', running, ARGV[6], -1)
  redis.call('RPUSH', results, ARGV[8])
  if ttl > 0 then redis.call('PEXPIRE', results, ttl) end
  if ARGV[1] == '0' then return waiting end
  if not taken[1] then return taken end
end
redis.call('RPUSH', running, unpack(taken))
redis.call('LTRIM', tasks, #taken, -1)
if ttl > 0 then redis.call('PEXPIRE', running, ttl) end
return taken
