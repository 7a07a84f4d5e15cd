-- Marks customers as due before their values are written, never later than they are marked already.
-- KEYS: the marks by instant, and the tokens of writers who have not finished. ARGV: the writer's token, then
-- for each customer its id and the instant in ms, '0' where the mark is to go.
for i = 2, #ARGV, 2 do
  local customer, at = ARGV[i], tonumber(ARGV[i + 1])
  redis.call('HSET', KEYS[2], customer, ARGV[1])
  if at ~= 0 then
    local stands = redis.call('ZSCORE', KEYS[1], customer)
    if not stands or at < tonumber(stands) then
      redis.call('ZADD', KEYS[1], ARGV[i + 1], customer)
    end
  end
end
return 1
