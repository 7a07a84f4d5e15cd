-- Takes an idempotency key, or returns the value of the claim that holds it.
-- KEYS[1]: the claim, stored as '<end in ms>:<value>'. ARGV: value, now, end, time to live, all in ms.
-- The caller's clock decides whether a claim holds; the time to live only tidies up.
local held = redis.call('GET', KEYS[1])
if held then
  local colon = string.find(held, ':', 1, true)
  if tonumber(string.sub(held, 1, colon - 1)) > tonumber(ARGV[2]) then
    return string.sub(held, colon + 1)
  end
end
if tonumber(ARGV[3]) > tonumber(ARGV[2]) then
  redis.call('SET', KEYS[1], ARGV[3] .. ':' .. ARGV[1], 'PX', ARGV[4])
end
return false
