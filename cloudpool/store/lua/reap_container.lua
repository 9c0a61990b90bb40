-- A process is gone: what it changed last need not be known any more.
-- KEYS  1 base of the object's keys
-- ARGV  1 process
-- Returns the number of its threads that had changed something.
local key, process, gone = KEYS[1] .. 'done', ARGV[1] .. '/', 0
if redis.call('HEXISTS', KEYS[1] .. 'values', '') == 1 then -- a namespace has it beside its values
  key, process = KEYS[1] .. 'values', '/' .. process
end
for _, field in ipairs(redis.call('HKEYS', key)) do
  if string.sub(field, 1, #process) == process then gone = gone + redis.call('HDEL', key, field) end
end
return gone
