#!lua flags=allow-oom
-- A process is gone: a phase in which it waits can never be full, so it breaks. So does, when it died, one in which others
-- wait and to which it had come before: they wait for it.
-- KEYS  1 base of the object's keys
-- ARGV  1 process   2 'dead' or 'ended'   3 expiry in ms (0: none)
-- Returns 1 when it broke.
local base, process = KEYS[1], ARGV[1] .. '/'
local line, state, arrived = base .. 'line', base .. 'state', base .. 'arrived'
for _, field in ipairs(redis.call('HKEYS', arrived)) do
  local party = string.match(field, '^end:(.*)$') or field
  if string.sub(party, 1, #process) == process then redis.call('HDEL', arrived, field) end
end
local waiting, breaks = redis.call('LRANGE', line, 0, -1), false
for _, entry in ipairs(waiting) do breaks = breaks or string.sub(entry, 1, #process) == process end
for _, party in ipairs(redis.call('SMEMBERS', base .. 'parties')) do
  if string.sub(party, 1, #process) == process then
    breaks = breaks or ARGV[2] == 'dead' and #waiting > 0
    redis.call('SREM', base .. 'parties', party)
  end
end
if not breaks then return 0 end
local phase = tonumber(redis.call('HGET', state, 'phase') or 1)
redis.call('XADD', base .. 'phases', 'MAXLEN', '~', '1000', phase .. '-1', 'outcome', 'broken')
redis.call('HSET', state, 'phase', phase + 1, 'broken', 1)
redis.call('DEL', line)
if tonumber(ARGV[3]) > 0 then redis.call('PEXPIRE', base .. 'phases', ARGV[3]) end
return 1
