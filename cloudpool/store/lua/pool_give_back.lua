#!lua flags=allow-oom
-- A worker's task takes long: what it took beyond that goes back to the head of the line, for others.
-- KEYS  1 base of the object's keys
-- ARGV  1 party   2 expiry in ms (0: none)   3.. ids of the tasks, which are the last of its running ones, in their order
-- Returns how many went back.
local tasks, running = KEYS[1] .. 'tasks', KEYS[1] .. 'running:' .. ARGV[1]
local back = 0
for n = #ARGV, 3, -1 do
  local last = redis.call('LINDEX', running, -1)
  if not last or string.sub(last, 1, #ARGV[n] + 1) ~= ARGV[n] .. ' ' then break end
  redis.call('LMOVE', running, tasks, 'RIGHT', 'LEFT')
  back = back + 1
end
if back > 0 and tonumber(ARGV[2]) > 0 then redis.call('PEXPIRE', tasks, ARGV[2]) end
return back
