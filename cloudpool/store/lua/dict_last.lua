-- The key that went into a dict last.
-- KEYS  1 base of the object's keys
-- Returns {version, field, order entry}, {version} when the dict is empty, {} when it is gone.
local all = redis.call('HGETALL', KEYS[1] .. 'order')
local version, last, place = nil, 0, nil
for i = 1, #all, 2 do
  if all[i] == '' then
    version = all[i + 1]
  elseif all[i] ~= '?' then
    local number = tonumber(string.match(all[i + 1], '^%d+'))
    if number > last then last, place = number, i end
  end
end
if not version then return {} end
if not place then return {version} end
return {version, all[place], all[place + 1]}
