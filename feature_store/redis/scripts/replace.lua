-- Replaces values of one customer, if they are still those that were read.
-- KEYS: their keys. ARGV[i]: SHA-1 in hex of the value read at KEYS[i], '' where there was none.
-- ARGV[#KEYS + i]: '=' leaves it, '-' removes it, '+' and bytes takes its place.
-- Returns 1, or 0 where another writer came between.
local count = #KEYS
for i = 1, count do
  local value = redis.call('GET', KEYS[i])
  if (value and redis.sha1hex(value) or '') ~= ARGV[i] then
    return 0
  end
end
for i = 1, count do
  local what = string.sub(ARGV[count + i], 1, 1)
  if what == '+' then
    redis.call('SET', KEYS[i], string.sub(ARGV[count + i], 2))
  elseif what == '-' then
    redis.call('DEL', KEYS[i])
  end
end
return 1
