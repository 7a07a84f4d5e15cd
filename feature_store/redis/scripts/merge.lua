-- Replaces values of several customers, each if it is still the one that was read.
-- KEYS: their keys. ARGV[i]: SHA-1 in hex of the value read at KEYS[i], '' where there was none.
-- ARGV[#KEYS + i]: the value to take its place. Returns the numbers, from 1, of those another writer came to.
local count, missed = #KEYS, {}
for i = 1, count do
  local value = redis.call('GET', KEYS[i])
  if (value and redis.sha1hex(value) or '') == ARGV[i] then
    redis.call('SET', KEYS[i], ARGV[count + i])
  else
    missed[#missed + 1] = i
  end
end
return missed
