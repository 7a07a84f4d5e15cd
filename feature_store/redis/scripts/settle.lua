-- Makes held units spent, or gives them back; what is not held, or no longer, stays as it is.
-- KEYS: for each budget its units held and its units spent. ARGV: key, now, '1' where spent, time to live of
-- spent units; all in ms.
for i = 1, #KEYS, 2 do
  local ends = redis.call('ZSCORE', KEYS[i], ARGV[1])
  if ends and tonumber(ends) > tonumber(ARGV[2]) then
    redis.call('ZREM', KEYS[i], ARGV[1])
    if ARGV[3] == '1' then
      redis.call('ZADD', KEYS[i + 1], ARGV[2], ARGV[1])
      redis.call('PEXPIRE', KEYS[i + 1], ARGV[4])
    end
  end
end
return 1
