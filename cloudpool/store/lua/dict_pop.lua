#!lua flags=allow-oom
-- Take a key out of a dict.
-- KEYS  1 base of the object's keys
-- ARGV  1 party   2 request number   3 expiry in ms (0: none)   4 version of the keys that the caller has compared with
--       ('': it compared with none)   5 field   6 '1': compare versions in any case
-- Returns its value; 0 when it is not there, -1 when the dict is gone, -2 when the caller must compare keys (again).
local base, ttl = KEYS[1], tonumber(ARGV[3])
local values, order = base .. 'values', base .. 'order'
local old = redis.call('HGET', values, ARGV[5])
if not old or ARGV[6] == '1' then
  local known = redis.call('HMGET', order, '', '?')
  if not known[1] then return -1 end
  if ARGV[4] == '' and known[2] or ARGV[4] ~= '' and known[1] ~= ARGV[4] then return -2 end
  if not old then return 0 end
end
redis.call('HDEL', values, ARGV[5])
redis.call('HDEL', order, ARGV[5])
redis.call('HINCRBY', order, '', 1)
if redis.call('HSET', base .. 'done', ARGV[1], ARGV[2] .. ':' .. old) == 1 and ttl > 0 then
  redis.call('PEXPIRE', base .. 'done', ttl)
end
return old
