#!lua flags=allow-oom
-- End a barrier's phase, if it has not ended: passed, broken (abort, timeout, failed action) or reset.
-- KEYS  1 base of the object's keys
-- ARGV  1 phase, 0 for the present one   2 'passed', 'broken' or 'reset'   3 expiry in ms (0: none)
--       4 party, and 5 number of its request: to end the present one is done once, however often it is sent
-- Returns what became of that phase: 'passed' or 'broken'.
local base = KEYS[1]
local line, state, phases = base .. 'line', base .. 'state', base .. 'phases'
local now = tonumber(redis.call('HGET', state, 'phase') or 1)
local phase = tonumber(ARGV[1])
if phase == 0 then
  if redis.call('HGET', base .. 'arrived', 'end:' .. ARGV[4]) == ARGV[5] then return 'broken' end
  redis.call('HSET', base .. 'arrived', 'end:' .. ARGV[4], ARGV[5])
elseif phase ~= now then
  local entry = redis.call('XRANGE', phases, phase .. '-1', phase .. '-1')
  return entry[1] and entry[1][2][2] or 'broken'
end
if ARGV[2] == 'reset' then
  redis.call('HDEL', state, 'broken')
elseif ARGV[2] == 'broken' then
  redis.call('HSET', state, 'broken', 1)
end
if phase ~= 0 or redis.call('LLEN', line) > 0 then
  redis.call('XADD', phases, 'MAXLEN', '~', '1000', now .. '-1', 'outcome', ARGV[2] == 'passed' and 'passed' or 'broken')
  redis.call('HSET', state, 'phase', now + 1)
  redis.call('DEL', line)
end
if tonumber(ARGV[3]) > 0 then
  for _, part in ipairs({'state', 'arrived', 'phases'}) do redis.call('PEXPIRE', base .. part, ARGV[3]) end
end
return ARGV[2] == 'passed' and 'passed' or 'broken'
