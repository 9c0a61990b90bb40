-- Append to a list. Its first element in the server is '', which keeps an empty list there.
-- KEYS  1 base of the object's keys
-- ARGV  1 party   2 request number   3 expiry in ms (0: none)   4.. values
-- Returns '' when done, -1 when the list is gone.
local base, ttl = KEYS[1], tonumber(ARGV[3])
for i = 4, #ARGV, 4000 do
  if redis.call('RPUSHX', base .. 'items', unpack(ARGV, i, math.min(i + 3999, #ARGV))) == 0 then return -1 end
end
if redis.call('HSET', base .. 'done', ARGV[1], ARGV[2] .. ':') == 1 and ttl > 0 then
  redis.call('PEXPIRE', base .. 'done', ttl)
end
return ''
