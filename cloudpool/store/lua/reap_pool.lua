#!lua flags=allow-oom
-- A worker is gone: what it had taken goes to the root, which knows how it ended, and what of that it had done and was at.
-- KEYS  1 base of the object's keys
-- ARGV  1 process   2 'dead' or 'ended' (a task that ends its worker in order has ended it too)   3 expiry in ms (0: none)
-- Returns the number of tasks that were running.
local base, process, found = KEYS[1], ARGV[1] .. '/', 0
local results, state = base .. 'results', base .. 'state'
local over = redis.call('HEXISTS', state, 'over') == 1
local pid = redis.call('HGET', state, 'pid:' .. ARGV[1]) or '0'
redis.call('HDEL', state, 'pid:' .. ARGV[1])
for _, party in ipairs(redis.call('SMEMBERS', base .. 'parties')) do
  if string.sub(party, 1, #process) == process then
    local running = base .. 'running:' .. party
    local had = not over and redis.call('LRANGE', running, 0, -1) or {}
    found = found + #had
    if #had > 0 and had[1] ~= '.' then -- which has done its work
      for n, task in ipairs(had) do had[n] = #task .. ':' .. task end
      redis.call('RPUSH', results, '! x' .. pid .. ' ' .. table.concat(had))
    end
    redis.call('DEL', running)
    -- What came to a thread of it goes with the pool, and the blobs that are named there.
    if redis.call('EXISTS', base .. 'results:' .. party, base .. 'collected:' .. party) == 0 then
      redis.call('SREM', base .. 'parties', party)
    end
  end
end
if found > 0 and tonumber(ARGV[3]) > 0 then redis.call('PEXPIRE', results, ARGV[3]) end
return found
