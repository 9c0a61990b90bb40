#!lua flags=allow-oom
-- A worker is done with its first running tasks: record their results, and give it more of the line.
-- KEYS  1 base of the object's keys
-- ARGV  1 party   2 most tasks to take   3 workers   4 expiry in ms (0: none)   5.. results, in the order of its tasks
-- Returns the tasks taken, or nil when one of those is not the worker's first then: it was recorded before, or is not its own.
-- No more than a fair share is taken, and a '.', which sends one worker home, only by itself.
local base, ttl, given = KEYS[1], tonumber(ARGV[4]), #ARGV - 4
local tasks, results, running = base .. 'tasks', base .. 'results', base .. 'running:' .. ARGV[1]
local first, done = redis.call('LRANGE', running, 0, given - 1), {}
for n = 5, #ARGV do
  local id, task = string.match(ARGV[n], '^%S+ '), first[#done + 1]
  if task and string.sub(task, 1, #id) == id then done[#done + 1] = ARGV[n] end
end
if #done > 0 then
  redis.call('LPOP', running, #done)
  redis.call('RPUSH', results, unpack(done))
  if ttl > 0 then redis.call('PEXPIRE', results, ttl) end
end
if #done < given then return false end
local most = tonumber(ARGV[2])
if most > 1 then most = math.max(1, math.min(most, math.floor(redis.call('LLEN', tasks) / tonumber(ARGV[3])))) end
local taken = most > 0 and redis.call('LRANGE', tasks, 0, most - 1) or {}
for n = 2, #taken do
  if taken[n] == '.' then taken = {unpack(taken, 1, n - 1)} break end
end
if #taken == 0 then return taken end
redis.call('RPUSH', running, unpack(taken))
redis.call('LTRIM', tasks, #taken, -1)
if ttl > 0 then redis.call('PEXPIRE', running, ttl) end
return taken
