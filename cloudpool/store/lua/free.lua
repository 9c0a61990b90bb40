#!lua flags=allow-oom
-- Delete every key of one object.
-- KEYS  1 base of the object's keys
-- ARGV  1 number of own parts   2.. own parts, then the parts that each party has
-- Returns the number of keys that were there.
local own, gone = tonumber(ARGV[1]), 0
local parties = {}
for i = 2, #ARGV do
  if ARGV[i] == 'parties' then parties = redis.call('SMEMBERS', KEYS[1] .. 'parties') end
end
for i = 2, #ARGV do
  if i < 2 + own then
    gone = gone + redis.call('UNLINK', KEYS[1] .. ARGV[i])
  else
    for _, party in ipairs(parties) do
      gone = gone + redis.call('UNLINK', KEYS[1] .. ARGV[i] .. ':' .. party)
    end
  end
end
return gone
