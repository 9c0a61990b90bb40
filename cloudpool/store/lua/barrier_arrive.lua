#!lua flags=allow-oom
-- Arrive at a barrier. A phase has a number; what became of it is the entry <number>-1 of `phases`.
-- KEYS  1 base of the object's keys
-- ARGV  1 parties   2 entry, unique to this arrival (party:number)   3 1 when the last one has an action to run first
--       4 expiry in ms
-- It is told again where it arrived, though its phase may be over.
-- Returns {index, phase}; index -1: the barrier is broken; -2: the phase is full and its action runs: wait for its end.
local base, parties = KEYS[1], tonumber(ARGV[1])
local line, state, arrived = base .. 'line', base .. 'state', base .. 'arrived'
local party = string.match(ARGV[2], '^(.*):')
local entry, where, when = string.match(redis.call('HGET', arrived, party) or '', '^(%S+) (%d+) (%d+)$')
if entry == ARGV[2] then return {tonumber(where), tonumber(when)} end
local phase = tonumber(redis.call('HGET', state, 'phase') or 1)
if redis.call('HGET', state, 'broken') == '1' then return {-1, phase} end
local index = redis.call('LLEN', line)
if index >= parties then return {-2, phase} end
redis.call('RPUSH', line, ARGV[2])
redis.call('HSET', arrived, party, ARGV[2] .. ' ' .. index .. ' ' .. phase)
if index == parties - 1 and ARGV[3] == '0' then
  redis.call('XADD', base .. 'phases', 'MAXLEN', '~', '1000', phase .. '-1', 'outcome', 'passed')
  redis.call('HSET', state, 'phase', phase + 1)
  redis.call('DEL', line)
end
if tonumber(ARGV[4]) > 0 then
  for _, part in ipairs({'line', 'state', 'arrived', 'phases'}) do redis.call('PEXPIRE', base .. part, ARGV[4]) end
end
return {index, phase}
