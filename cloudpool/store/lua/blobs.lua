-- Which blobs the messages in an object are in: what is freed with it.
-- KEYS  1 base of the object's keys
-- ARGV  its parts that hold messages, lists or hashes, one each or one for each party
-- Returns those messages that name a blob (they begin with 'b').
local found, parties = {}, redis.call('SMEMBERS', KEYS[1] .. 'parties')
local function look(key, results)
  local messages, kind = {}, redis.call('TYPE', key).ok
  if kind == 'hash' then messages = redis.call('HVALS', key) end
  if kind == 'list' then messages = redis.call('LRANGE', key, 0, -1) end
  for _, message in ipairs(messages) do
    -- A pool's results have `<task> <status>` before the message; of those that are together none is in a blob.
    if results then message = string.match(message, '^%S+ .(.*)$') or '' end
    if string.byte(message) == 98 then found[#found + 1] = message end
  end
end
for _, part in ipairs(ARGV) do
  local results = part == 'results' or part == 'collected'
  look(KEYS[1] .. part, results)
  for _, party in ipairs(parties) do look(KEYS[1] .. part .. ':' .. party, results) end
end
return found
