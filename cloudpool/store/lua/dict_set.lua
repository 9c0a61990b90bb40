-- Set keys of a dict, all or none. New ones go to the end of its order.
-- KEYS  1 base of the object's keys
-- ARGV  1 party   2 request number   3 expiry in ms (0: none)   4 version of the keys that the caller has compared with
--       ('': it compared with none)   5 '1': leave a value that is there
--       6.. field, value, pickled key ('': the field tells it) of each
-- Returns the replaced messages of blobs, each as <length>:<message>; {value} for one that was left; -1 when the dict is
-- gone, -2 when the caller must compare its keys with those of other types.
local base, ttl = KEYS[1], tonumber(ARGV[3])
local values, order = base .. 'values', base .. 'order'
local blobs, checked, fresh = '', false, {}
for i = 6, #ARGV, 3 do
  local old = redis.call('HGET', values, ARGV[i])
  if not old then
    if not checked then
      local known = redis.call('HMGET', order, '', '?')
      if not known[1] then return -1 end
      if ARGV[4] == '' and known[2] or ARGV[4] ~= '' and known[1] ~= ARGV[4] then return -2 end
      checked = true
    end
    fresh[#fresh + 1] = i
  elseif ARGV[5] == '1' then
    return {old}
  elseif string.byte(old) == 98 then
    blobs = blobs .. #old .. ':' .. old
  end
end
for _, i in ipairs(fresh) do
  local entry = redis.call('HINCRBY', order, '', 1)
  if ARGV[i + 2] ~= '' then entry = entry .. ':' .. ARGV[i + 2] end
  redis.call('HSET', order, ARGV[i], entry)
  if string.byte(ARGV[i]) == 63 then redis.call('HSET', order, '?', 1) end
end
for i = 6, #ARGV, 3 do redis.call('HSET', values, ARGV[i], ARGV[i + 1]) end
local first = redis.call('HSET', base .. 'done', ARGV[1], ARGV[2] .. ':' .. blobs) == 1
if ttl > 0 and (first or checked) then
  redis.call('PEXPIRE', values, ttl)
  redis.call('PEXPIRE', base .. 'done', ttl)
end
return blobs
