#!lua flags=allow-oom
-- One item is done: the party's own oldest, else one of its process, else any. Joiners wake when none is unfinished.
-- KEYS  1 base of the object's keys
-- ARGV  1 party   2 number of this task_done by this party (from 1)   3 expiry in ms (0: none)
--       4 1 when what is taken stays with its taker until it is done (a JoinableQueue)
-- Returns {number of the party's own items that are left, the item, how many others have taken of its own}; -1 when there
-- was nothing unfinished. Asked again, of an item only what names a blob, which is to be dropped.
local base, party, item = KEYS[1], ARGV[1], nil
local own, state, seen = base .. 'taken:' .. party, base .. 'state', base .. 'seen'
local known = redis.call('HMGET', seen, 'done:' .. party, 'moved:' .. party, 'blob:' .. party)
local moved = tonumber(known[2] or 0)
if known[1] == ARGV[2] then return {redis.call('LLEN', own), known[3] or '', moved} end
local unfinished = tonumber(redis.call('HGET', state, 'unfinished') or 0)
if unfinished <= 0 then return {-1, '', moved} end
if ARGV[4] == '1' then
  local process, parties = string.match(party, '^(.*/)'), redis.call('SMEMBERS', base .. 'parties')
  item = redis.call('LPOP', own)
  for _, prefix in ipairs({process, ''}) do
    for _, other in ipairs(parties) do
      if not item and string.sub(other, 1, #prefix) == prefix then
        item = redis.call('LPOP', base .. 'taken:' .. other)
        if item then redis.call('HINCRBY', seen, 'moved:' .. other, 1) end
      end
    end
  end
end
local blob = item and string.sub(item, 1, 1) == 'b' and item or ''
redis.call('HSET', seen, 'done:' .. party, ARGV[2], 'blob:' .. party, blob)
redis.call('HSET', state, 'unfinished', unfinished - 1)
if unfinished == 1 then redis.call('XADD', base .. 'done', 'MAXLEN', '1', '*', 'all', 'done') end
if tonumber(ARGV[3]) > 0 then
  for _, part in ipairs({'seen', 'state', 'done'}) do redis.call('PEXPIRE', base .. part, ARGV[3]) end
end
return {redis.call('LLEN', own), item or '', moved}
