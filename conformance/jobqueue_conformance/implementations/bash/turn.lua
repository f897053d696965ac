-- One turn of the server, in one atomic step: finish the last message, then find the next one.
-- KEYS: the in-process list, the dead list, the queue.
-- ARGV: the SHA-1 of the message to finish, or nothing; whether to claim nothing, or nothing;
--       [channel, result] as JSON, with a third member, true, where the message is buried, too; or nothing where it is dead.
--       This one ends with a newline.
-- Returns the SHA-1 and the text, on one line, of the message to run next; nothing where there is none.
local list, dead, queue = unpack(KEYS)
local finished, claim_nothing, answer = unpack(ARGV)
local buried = true

-- Where PUBLISH is refused the script ends here, and removes nothing: server.publish.refused.
if answer ~= "\n" then
  local channel, result, and_buried = unpack(cjson.decode(answer))
  redis.call("PUBLISH", channel, result)
  buried = and_buried
end

-- Only Redis holds the exact bytes: server.remove.exact-bytes. A removal that finds nothing is none.
for _, message in ipairs(redis.call("LRANGE", list, 0, -1)) do
  if redis.sha1hex(message) == finished then
    if buried then
      redis.call("LPUSH", dead, message)
    end
    redis.call("LREM", list, -1, message)
    break
  end
end

-- Entries of the list come before any claim, oldest first: server.recovery.first, server.recovery.order.
local message = redis.call("LRANGE", list, -1, -1)[1]
if not message and claim_nothing == "" then
  message = redis.call("LMOVE", queue, list, "RIGHT", "LEFT") -- server.claim.atomic
end

-- JSON reads a carriage return where a newline was, and refuses \1, which stands for the NUL that bash can't hold.
return message and {redis.sha1hex(message), (message:gsub("\n", "\r"):gsub("%z", "\1"))}
