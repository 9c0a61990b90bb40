#!lua flags=allow-oom
-- A process is gone: items that it took and had not got (or not done, in a JoinableQueue) go back to the head; what it
-- waited for goes to the next.
-- KEYS  1 base of the object's keys
-- ARGV  1 process   2 'dead' or 'ended' (in order: what it got and has not marked done it keeps)   3 expiry in ms
--       4 pid   5.. party, number of items that it had got and not done, of each that had some when the process ended
-- Returns the number of items put back.
local base, process, ttl, back, rightly = KEYS[1], ARGV[1] .. '/', tonumber(ARGV[3]), 0, {}
for i = 5, #ARGV, 2 do rightly[ARGV[i]] = tonumber(ARGV[i + 1]) end
for _, party in ipairs(redis.call('SMEMBERS', base .. 'parties')) do
  if string.sub(party, 1, #process) == process then
    local taken, keep = base .. 'taken:' .. party, ARGV[2] == 'ended' and rightly[party] or 0
    while redis.call('LLEN', taken) > keep do
      redis.call('LMOVE', taken, base .. 'items', 'RIGHT', 'LEFT')
      back = back + 1
    end
    redis.call('SREM', base .. 'readers', party)
    redis.call('LREM', base .. 'line', 0, party)
    if redis.call('DEL', base .. 'room:' .. party) == 1 then
      local next_party = redis.call('LPOP', base .. 'line')
      if next_party then
        redis.call('RPUSH', base .. 'room:' .. next_party, 1)
        if ttl > 0 then redis.call('PEXPIRE', base .. 'room:' .. next_party, ttl) end
      end
    end
    redis.call('HDEL', base .. 'seen', party, 'done:' .. party, 'got:' .. party, 'moved:' .. party, 'blob:' .. party)
    if redis.call('EXISTS', taken) == 0 then redis.call('SREM', base .. 'parties', party) end
  end
end
if ttl > 0 then redis.call('PEXPIRE', base .. 'items', ttl) end
return back
