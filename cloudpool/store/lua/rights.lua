-- Which of the commands that cloudpool sends this user may not run; asked once, so that none is refused in the middle of work.
-- KEYS  1 any key of the session
-- ARGV  the commands, as store/rights.py has them
-- Returns their names.
local key, refused = KEYS[1], {}
local whole = { -- where the server looks for keys behind the first argument, they must be there
  eval = {'eval', '', '1', key}, evalsha = {'evalsha', '', '1', key}, xread = {'xread', 'streams', key, '0'},
  lmove = {'lmove', key, key, 'left', 'left'}, blmove = {'blmove', key, key, 'left', 'left', '1'},
}
for _, name in ipairs(ARGV) do
  local command, sub = string.match(name, '^([^|]+)|?(.*)$')
  local asked = whole[name] or {command, sub == '' and key or sub}
  if not redis.acl_check_cmd(unpack(asked)) then refused[#refused + 1] = name end
end
return refused
