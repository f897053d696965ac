-- Counts one start of an entry, in one atomic step, and only once even where the step is sent again (server.attempts.counts).
-- KEYS: the count. ARGV: the count before, as GET showed it; nothing where there was none.
-- Returns the count. Where Redis refuses one of these commands the script ends there, with that error.
if (redis.call("GET", KEYS[1]) or "") == ARGV[1] then
  redis.call("INCR", KEYS[1])
  redis.call("EXPIRE", KEYS[1], 259200) -- three days
end
return redis.call("GET", KEYS[1])
