-- Replace a stretch of a list, if the list is still what the caller has read.
-- KEYS  1 base of the object's keys
-- ARGV  1 party   2 request number   3 expiry in ms (0: none)
--       4 SHA1 of all elements, each as <length>:<element>   5 index of the first to be replaced   6 how many   7.. values
-- Returns '' when done, 0 when the list has changed, -1 when it is gone.
local base, ttl = KEYS[1], tonumber(ARGV[3])
local items = base .. 'items'
local all, told = redis.call('LRANGE', items, 0, -1), {}
if #all == 0 then return -1 end
for i = 2, #all do told[i - 1] = #all[i] .. ':' .. all[i] end
if redis.sha1hex(table.concat(told)) ~= ARGV[4] then return 0 end
local start, count = tonumber(ARGV[5]), tonumber(ARGV[6])
redis.call('LTRIM', items, 0, start) -- the '' is at 0
for i = 7, #ARGV, 4000 do redis.call('RPUSH', items, unpack(ARGV, i, math.min(i + 3999, #ARGV))) end
for i = start + count + 2, #all, 4000 do redis.call('RPUSH', items, unpack(all, i, math.min(i + 3999, #all))) end
if redis.call('HSET', base .. 'done', ARGV[1], ARGV[2] .. ':') == 1 and ttl > 0 then
  redis.call('PEXPIRE', base .. 'done', ttl)
end
return ''
