# The feature `takeover` between what Redis says and what follows from it, as pure functions and four scripts: who has a lease,
# and what is due on which list.
#
# The registry is a hash, from the key of an in-process list to a number v of milliseconds of Redis's clock: 0 is alive, v > 0
# lapsed since v, v < 0 found empty at -v. Anybody may have written any key and any value, so keys are Buffers.

# server.takeover.renews: Redis executes PEXPIRE at its memory limit, where it refuses SET.
RENEW = '''
if redis.call('GET', KEYS[1]) == ARGV[1] then
  return redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
return 0
'''

# server.takeover.releases
RELEASE = '''
if redis.call('GET', KEYS[1]) == ARGV[1] then
  return redis.call('DEL', KEYS[1])
end
return 0
'''

# server.takeover.own-registration: it may arrive when the next life of this name has registered the list.
UNREGISTER = '''
if redis.call('GET', KEYS[1]) == ARGV[1] and redis.call('LLEN', KEYS[3]) == 0 then
  return redis.call('HDEL', KEYS[2], KEYS[3])
end
return 0
'''

# server.takeover.waits: only for the token of a life that is proved to be over.
INHERIT = '''
if redis.call('GET', KEYS[1]) == ARGV[1] then
  return redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
end
return false
'''

# What is due on one list, in one step: server.takeover.adopts, server.takeover.only-lapsed, server.takeover.marked,
# server.takeover.late, server.takeover.prunes.
ADOPT = '''
if redis.call('GET', KEYS[2]) ~= ARGV[1] or redis.call('EXISTS', KEYS[3]) == 1 then
  return false
end
local raw = redis.call('HGET', KEYS[1], KEYS[5])
if not raw then
  return false
end
local v = string.match(raw, '^%-?%d+$') and tonumber(raw) or 0
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if v == 0 or math.abs(v) > now then
  redis.call('HSET', KEYS[1], KEYS[5], now)
  return false
end
if v > 0 and now - v < tonumber(ARGV[2]) then
  return false
end
local message = redis.call('LMOVE', KEYS[5], KEYS[4], 'RIGHT', 'LEFT')
if redis.call('LLEN', KEYS[5]) == 0 then
  if v > 0 then
    redis.call('HSET', KEYS[1], KEYS[5], -now)
  elseif not message and now + v >= tonumber(ARGV[3]) then
    redis.call('HDEL', KEYS[1], KEYS[5])
  end
end
return message
'''

# The feature's keys.
processorsKey = (queue) -> "#{queue}:processors"
scannedKey = (queue) -> "#{queue}:scanned"
leaseKey = (queue, list) -> Buffer.concat [Buffer.from("#{queue}:lease:"), Buffer.from list]

# The words of a script's command, each with its number of keys in front of them.
evalOf = (script, keys, values...) -> ['EVAL', script, String(keys.length), keys..., values...]

isError = (reply) -> reply instanceof Error

# What the replies to SET, GET and PTTL of a lease and to HSET of its list say; `refusal` is the first error among them.
acquired = (replies) ->
  [taken, holder, leftMs, registered] = replies
  isTaken: not isError(taken) and taken isnt null # it was free, and is the caller's for the whole time
  holder: String holder unless isError(holder) or holder is null
  leftMs: if leftMs >= 0 then leftMs
  isRegistered: typeof registered is 'number'
  isNew: registered is 1
  refusal: replies.find isError

# The registrations of a page of HSCAN that concern whoever has the list `own`: `{key, v}` (server.takeover.ignores).
registrations = (page, queue, own) ->
  prefix = Buffer.from "#{queue}:"
  others = (Buffer.from each for each in [own, "#{queue}:dead"])
  found = ({key: page[i], v: numberOf page[i + 1]} for i in [0...page.length] by 2)
  found.filter ({key}) -> key.subarray(0, prefix.length).equals(prefix) and not others.some (each) -> key.equals each

# What is no number counts as 0, as it does in the script.
numberOf = (value) -> if /^-?\d{1,15}$/.test value.toString 'latin1' then Number value else 0

# In how many milliseconds a list is due, less than 1 if it is now; undefined if never, or where Redis refused to tell. `reply` is
# the length of a list that was found empty (v < 0), and how long the lease of any other one lasts.
dueMs = (v, reply, nowMs, {leaseMs, graceMs}) ->
  return if isError reply
  if v < 0
    return if reply > 0 or -v > nowMs then 0 else graceMs - (nowMs + v)
  return (if reply >= 0 then reply + 1) unless reply is -2 # a lease is there
  if v is 0 or v > nowMs then 0 else leaseMs - (nowMs - v)

# The code of an error, also where Redis 6.2 hides it in the words on a script: "ERR Error running script …: -OOM …".
codeOf = ({message}) -> / -([A-Z]+) /.exec(message)?[1] ? message.split(' ', 1)[0]

# Whether an error says that a permission is missing, also in a script, where versions of Redis word it differently.
isForbidden = ({message}) -> /NOPERM|user executing the script can't|ACL failure in script/.test message

module.exports = {
  RENEW, RELEASE, UNREGISTER, INHERIT, ADOPT, evalOf, processorsKey, scannedKey, leaseKey, acquired, registrations, dueMs, codeOf, isForbidden
}
