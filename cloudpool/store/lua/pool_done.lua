#!lua flags=allow-oom
-- A worker is done with its first running tasks: record their results, and give it more of the line.
-- KEYS  1 base of the object's keys
-- ARGV  1 most tasks to take   2 party   3 workers   4 expiry in ms (0: none)   5 whom the results are for ('': the collector)
--       6 number of tasks   7 id of the first   8 their results, one element
-- Returns the tasks taken, or where none are wanted the number that wait; nil when that task is not the worker's first: it
-- was recorded before, or is not its own.
-- No more than a fair share is taken, and a '.', which sends one worker home, only by itself.
local base, most, ttl = KEYS[1], tonumber(ARGV[1]), tonumber(ARGV[4])
local tasks, results, running = base .. 'tasks', base .. 'results', base .. 'running:' .. ARGV[2]
if ARGV[5] ~= '' then results = results .. ':' .. ARGV[5] end
local first = redis.call('LINDEX', running, 0)
if not first or string.sub(first, 1, #ARGV[7] + 1) ~= ARGV[7] .. ' ' then return false end
redis.call('LTRIM', running, ARGV[6], -1)
redis.call('RPUSH', results, ARGV[8])
if ttl > 0 then redis.call('PEXPIRE', results, ttl) end
local waiting = redis.call('LLEN', tasks)
if most == 0 then return waiting end
if waiting == 0 then return {} end
if most > 1 then most = math.min(most, math.ceil(waiting / tonumber(ARGV[3]))) end
local taken = redis.call('LRANGE', tasks, 0, most - 1)
for n = 2, #taken do
  if taken[n] == '.' then taken = {unpack(taken, 1, n - 1)} break end
end
redis.call('RPUSH', running, unpack(taken))
redis.call('LTRIM', tasks, #taken, -1)
if ttl > 0 then redis.call('PEXPIRE', running, ttl) end
return taken
