#!lua flags=allow-oom
-- A worker is done with the first of its running tasks: record the result, and give it more of the line.
-- KEYS  1 base of the object's keys
-- ARGV  1 party   2 task id   3 result   4 most tasks to take   5 workers   6 expiry in ms (0: none)
-- Returns the tasks taken, or nil when that task is not the worker's first: it was recorded before, or is not its own.
-- No more than a fair share is taken, and a '.', which sends one worker home, only by itself.
local base, ttl = KEYS[1], tonumber(ARGV[6])
local tasks, results, running = base .. 'tasks', base .. 'results', base .. 'running:' .. ARGV[1]
local first = redis.call('LINDEX', running, 0)
if not first or string.sub(first, 1, #ARGV[2] + 1) ~= ARGV[2] .. ' ' then return false end
redis.call('LPOP', running)
redis.call('RPUSH', results, ARGV[3])
local most, taken = tonumber(ARGV[4]), {}
if most > 1 then most = math.max(1, math.min(most, math.floor(redis.call('LLEN', tasks) / tonumber(ARGV[5])))) end
for n = 1, most do
  if n > 1 and redis.call('LINDEX', tasks, 0) == '.' then break end
  taken[n] = redis.call('LMOVE', tasks, running, 'LEFT', 'RIGHT') or nil
  if not taken[n] then break end
end
if ttl > 0 then
  redis.call('PEXPIRE', results, ttl)
  redis.call('PEXPIRE', running, ttl)
end
return taken
