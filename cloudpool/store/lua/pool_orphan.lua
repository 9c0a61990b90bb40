#!lua flags=allow-oom
-- A pool's own process has died, so nobody wants its tasks: they go, and its workers have no other.
-- KEYS  1 base of the object's keys
-- ARGV  1 expiry in ms (0: none)
-- Returns the names of the processes that work for it; those that are just starting are sent home.
local tasks, state = KEYS[1] .. 'tasks', KEYS[1] .. 'state'
redis.call('HSET', state, 'over', 1)
redis.call('DEL', tasks, KEYS[1] .. 'functions')
local names = {}
for _, field in ipairs(redis.call('HKEYS', state)) do
  if string.sub(field, 1, 4) == 'pid:' then names[#names + 1] = string.sub(field, 5) end
end
for _ = 1, tonumber(redis.call('HGET', state, 'workers') or 0) do redis.call('RPUSH', tasks, '.') end
if tonumber(ARGV[1]) > 0 then
  redis.call('PEXPIRE', state, ARGV[1])
  redis.call('PEXPIRE', tasks, ARGV[1])
end
return names
