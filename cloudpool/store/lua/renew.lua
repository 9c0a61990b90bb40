#!lua flags=allow-oom
-- Put off the expiry of every key of one object.
-- KEYS  1 base of the object's keys
-- ARGV  1 expiry in ms   2 number of own parts   3.. own parts, then the parts that each party has
-- Returns the number of keys that are there.
local own, there = tonumber(ARGV[2]), 0
local parties = {}
for i = 3, #ARGV do
  if ARGV[i] == 'parties' then parties = redis.call('SMEMBERS', KEYS[1] .. 'parties') end
end
for i = 3, #ARGV do
  if i < 3 + own then
    there = there + redis.call('PEXPIRE', KEYS[1] .. ARGV[i], ARGV[1])
  else
    for _, party in ipairs(parties) do
      there = there + redis.call('PEXPIRE', KEYS[1] .. ARGV[i] .. ':' .. party, ARGV[1])
    end
  end
end
return there
