-- Holds one unit of each budget, or of none.
-- KEYS: for each demand the units held and the units spent of its budget, sorted sets of keys by instant.
-- ARGV: key, now, end of the hold, time to live of held units, hold kept for late clocks; then for each
-- demand its limit, its window and the widest window of any demand on that budget. All in ms.
-- A hold counts while its end is after now, a spent unit while it is younger than the window.
-- Returns the numbers of the demands, from 1, that had no unit left.
local key, now, ends, lives, margin = ARGV[1], tonumber(ARGV[2]), ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5])
local function text(number)
  return string.format('%.0f', number)
end
local function after(set, instant)
  local at = redis.call('ZSCORE', set, key)
  return at and tonumber(at) > instant
end
local exhausted, wanted = {}, {}
for i = 1, #KEYS / 2 do
  local held, spent = KEYS[2 * i - 1], KEYS[2 * i]
  local limit, window, widest = unpack(ARGV, 3 + 3 * i, 5 + 3 * i)
  if not (after(held, now) or after(spent, now - widest)) then
    wanted[#wanted + 1] = {held, spent, tonumber(widest)}
    local taken = redis.call('ZCOUNT', held, '(' .. text(now), '+inf')
      + redis.call('ZCOUNT', spent, '(' .. text(now - window), '+inf')
    if taken >= tonumber(limit) then
      exhausted[#exhausted + 1] = i
    end
  end
end
if #exhausted == 0 then
  for _, budget in ipairs(wanted) do
    local held, spent, widest = unpack(budget)
    redis.call('ZADD', held, ends, key) -- first, as this is what is refused when memory is full
    redis.call('ZREM', spent, key)
    redis.call('ZREMRANGEBYSCORE', held, '-inf', text(now - margin))
    redis.call('ZREMRANGEBYSCORE', spent, '-inf', text(now - 2 * widest - margin))
    if redis.call('PTTL', held) < lives then
      redis.call('PEXPIRE', held, lives)
    end
  end
end
return exhausted
