-- Removes all values of one customer, if the first is still the one that was read.
-- KEYS: the keys, identities first. ARGV[1]: SHA-1 in hex of the value read there, '' where there was none,
-- '*' for any. Returns how many there were, or -1 where another writer came between.
if ARGV[1] ~= '*' then
  local value = redis.call('GET', KEYS[1])
  if (value and redis.sha1hex(value) or '') ~= ARGV[1] then
    return -1
  end
end
return redis.call('DEL', unpack(KEYS))
