-- Sets marks to what was written, unless another writer has begun since.
-- KEYS and ARGV as in mark.lua.
for i = 2, #ARGV, 2 do
  local customer = ARGV[i]
  if redis.call('HGET', KEYS[2], customer) == ARGV[1] then
    redis.call('HDEL', KEYS[2], customer)
    if ARGV[i + 1] == '0' then
      redis.call('ZREM', KEYS[1], customer)
    else
      redis.call('ZADD', KEYS[1], ARGV[i + 1], customer)
    end
  end
end
return 1
