#!lua flags=allow-oom
-- A worker is gone: its tasks go back to the head of the line in their order, but the one that it was at goes to the root,
-- which knows how the worker ended and says what is to become of it.
-- KEYS  1 base of the object's keys
-- ARGV  1 process   2 'dead' or 'ended' (a task that ends its worker in order has ended it too)   3 expiry in ms (0: none)
-- Returns the number of tasks that were running.
local base, process, found = KEYS[1], ARGV[1] .. '/', 0
local tasks, results, state = base .. 'tasks', base .. 'results', base .. 'state'
local over = redis.call('HEXISTS', state, 'over') == 1
local pid = redis.call('HGET', state, 'pid:' .. ARGV[1]) or '0'
redis.call('HDEL', state, 'pid:' .. ARGV[1])
for _, party in ipairs(redis.call('SMEMBERS', base .. 'parties')) do
  if string.sub(party, 1, #process) == process then
    local running = base .. 'running:' .. party
    local first = not over and redis.call('LPOP', running)
    if first then
      found = found + 1
      while redis.call('LMOVE', running, tasks, 'RIGHT', 'LEFT') do found = found + 1 end
      if first ~= '.' then -- which has done its work
        redis.call('RPUSH', results, string.match(first, '^%S+') .. ' x' .. pid .. ' ' .. first)
      end
    end
    redis.call('DEL', running)
    redis.call('SREM', base .. 'parties', party)
  end
end
if found > 0 and tonumber(ARGV[3]) > 0 then
  redis.call('PEXPIRE', tasks, ARGV[3])
  redis.call('PEXPIRE', results, ARGV[3])
end
return found
