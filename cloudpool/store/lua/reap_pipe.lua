#!lua flags=allow-oom
-- A process is gone: a message that it had taken and not received goes back to the head.
-- KEYS  1 base of the object's keys
-- ARGV  1 process   2 'dead' or 'ended'   3 expiry in ms (0: none)
-- Returns the number of messages put back.
local base, process, back = KEYS[1], ARGV[1] .. '/', 0
for _, party in ipairs(redis.call('SMEMBERS', base .. 'parties')) do
  if string.sub(party, 1, #process) == process then
    for _, side in ipairs({'a', 'b'}) do
      local taken = base .. 'taken-' .. side .. ':' .. party
      while redis.call('LMOVE', taken, base .. side, 'RIGHT', 'LEFT') do back = back + 1 end
      if back > 0 and tonumber(ARGV[3]) > 0 then redis.call('PEXPIRE', base .. side, ARGV[3]) end
    end
    redis.call('SREM', base .. 'parties', party)
    redis.call('HDEL', base .. 'state', 'sent:' .. party, 'got:' .. party)
  end
end
return back
