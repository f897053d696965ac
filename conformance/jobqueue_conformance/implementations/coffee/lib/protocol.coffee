# The protocol between bytes and values, as pure functions: what a message means, what an answer looks like, where it is kept,
# and what has to be recovered. Nothing here connects, waits, reads a clock or keeps state. Messages are always Buffers: what
# removes one needs the exact bytes that Redis holds.

{createHash} = require 'node:crypto'

MAX_BYTES = 1024 * 1024
EXPIRY_BYTES = ',"expires_at_ms":'.length + 16 # as many digits as a number is exact for
WIRE_CODES = [
  'method-not-found', 'invalid-job', 'handler-error', 'result-not-serializable', 'result-too-large', 'too-many-attempts'
  'expired'
]

# How a job ends that has no result. A handler that throws one chooses the code, which then has a dot in it.
class JobError extends Error
  constructor: (code, message, data) ->
    super message
    @name = 'JobError'
    @code = code
    @data = data if data isnt undefined

# No result came in time. A class of its own, because a server's error may carry any code.
class JobTimeout extends JobError
  constructor: (timeoutMs) -> super 'timeout', "no result came within #{timeoutMs} ms"

utf8 = new TextDecoder 'utf-8', fatal: yes, ignoreBOM: yes

isName = (value) -> typeof value is 'string' and value isnt ''

# The JSON object that the bytes spell, or undefined.
decodeObject = (bytes) ->
  try
    value = JSON.parse utf8.decode bytes
    value if value isnt null and typeof value is 'object' and not Array.isArray value

# By itself JSON.stringify writes NaN as null and leaves functions out: values would change on their way.
strict = (name, value) ->
  switch typeof value
    when 'number' then throw new TypeError "#{value} is not a JSON value" unless Number.isFinite value
    when 'function', 'symbol' then throw new TypeError "a #{typeof value} is not a JSON value"
  value

# As `strict`, and without lone surrogates, which parsers read differently.
portable = (name, value) ->
  for text in [name, value] when typeof text is 'string' and /\p{Surrogate}/u.test text
    throw new TypeError 'a lone surrogate is not portable'
  strict name, value

# The bytes to push for a job, with room for `withExpiry` if it expires; throws if the caller's values have no place in a job.
encodeJob = ({method, parameters, channel, id, keepMs, expires}) ->
  throw new TypeError 'a method must be a non-empty string' unless isName method # client.job.form
  keep_ms = Math.floor keepMs if keepMs? # client.kept.member
  # client.job.parameters
  bytes = Buffer.from JSON.stringify {method, parameters: parameters ? null, channel, id, keep_ms}, portable
  length = bytes.length + if expires then EXPIRY_BYTES else 0
  throw new RangeError "a job of #{length} bytes exceeds 1 MiB" if length > MAX_BYTES # client.job.size
  bytes

# The bytes of a job that expires at this time of Redis's clock (client.expiry.member).
withExpiry = (message, atMs) -> Buffer.concat [message.subarray(0, -1), Buffer.from ",\"expires_at_ms\":#{atMs}}"]

# What a server does about a message: `{dead: reason}`, `{to, answer}`, with `spent: reason` where it is buried, too, or
# `{to, id, method, parameters}` to run, unless its `expiresAtMs` has passed. `to` is the channel, and for how many milliseconds the answer is kept: 0 where it isn't.
# The order of the lines is that of the table in the protocol's section 7.2.
decide = (bytes, {isHandled, prefixes, keepMaxMs, starts, maxAttempts}) ->
  return {dead: "servers started it #{starts} times"} if starts > maxAttempts + 1 # server.attempts.unread
  return {dead: 'it exceeds 1 MiB'} if bytes.length > MAX_BYTES
  return {dead: 'it is not a JSON object'} unless job = decodeObject bytes
  {channel, id, method, parameters = null} = job # server.run.parameters
  return {dead: 'its channel must be a non-empty string'} unless isName channel
  return {dead: 'its id must be a non-empty string'} unless isName id
  unless prefixes.some((prefix) -> channel.startsWith prefix) # server.channel-prefix.confined
    return {dead: 'its channel begins with none of the allowed prefixes'}
  to = {channel, keepMs: keptMs(job.keep_ms, keepMaxMs)}
  if starts > maxAttempts # server.attempts.limit
    spent = "servers ended while they ran it, and this would be start #{starts}"
    return {to, spent, answer: encodeError id, new JobError 'too-many-attempts', spent}
  unless isName method # server.run.invalid-job
    return {to, answer: encodeError id, new JobError 'invalid-job', 'the method must be a non-empty string'}
  unless isHandled method # server.run.method-not-found
    return {to, answer: encodeError id, new JobError 'method-not-found', "no handler is registered for method '#{method}'"}
  expiresAtMs = job.expires_at_ms if typeof job.expires_at_ms is 'number' # server.expiry.value
  {to, id, method, parameters, expiresAtMs}

# How long an answer is kept that a job asks to keep: whole milliseconds up to the limit, or 0 (server.kept.value).
keptMs = (asked, limit) -> if typeof asked is 'number' and asked >= 1 then Math.floor Math.min asked, limit else 0

# Where the answer to a message is kept, by the digest of its bytes.
resultKey = (queue, digest) -> "#{queue}:result:#{digest}"

# Where the starts of a message are counted.
attemptsKey = (queue, digest) -> "#{queue}:attempts:#{digest}"

digestOf = (message) -> createHash('sha1').update(message).digest 'hex'

# The bytes to publish for a handler's result.
encodeValue = (id, value) -> encodeAnswer id, result: value ? null # server.result.value

# The bytes to publish for an error of a handler.
encodeError = (id, thrown) ->
  isChosen = thrown instanceof JobError and (thrown.code in WIRE_CODES or /\./.test thrown.code) # server.result.code
  message = try String thrown?.message ? thrown catch then 'the handler failed'
  encodeAnswer id, error:
    code: if isChosen then thrown.code else 'handler-error' # server.run.handler-error
    message: message
    data: thrown.data if isChosen

encodeAnswer = (id, answer) -> # server.result.form, server.result.id
  try
    bytes = Buffer.from JSON.stringify {id, answer...}, strict
  catch error # server.result.not-serializable
    return encodeAnswer id, error: {code: 'result-not-serializable', message: error.message}
  return bytes if bytes.length <= MAX_BYTES or answer.error?.code is 'result-too-large'
  encodeAnswer id, error: {code: 'result-too-large', message: "the result has #{bytes.length} bytes"} # server.result.too-large

# What a message on a client's channel says: `{id, value}` or `{id, error}`; undefined if it is not a result.
decodeResult = (bytes) ->
  return unless (message = decodeObject bytes) and isName message.id
  {id, result, error} = message
  return if (result is undefined) is (error is undefined) # neither, or both
  return {id, value: result} if error is undefined # client.settle.value
  return unless typeof error?.code is 'string' and typeof error.message is 'string'
  {id, error: new JobError error.code, error.message, error.data} # client.settle.error

# The handle of a job, by which whoever has it collects the result (client.kept.handle).
encodeHandle = ({digest, id, channel}) -> [digest, (Buffer.from(name).toString 'base64url' for name in [id, channel])...].join '.'

# What it says, `{digest, id, channel}`; throws where it is malformed.
decodeHandle = (handle) ->
  [, digest, names...] = /^([0-9a-f]{40})\.([\w-]+)\.([\w-]+)$/.exec(handle) ? []
  try
    [id, channel] = (utf8.decode Buffer.from name, 'base64url' for name in names)
    return {digest, id, channel} if handle is encodeHandle {digest, id, channel}
  throw new JobError 'invalid-handle', 'it is not the handle of a job' # client.kept.malformed

# The entries of the in-process list, in LRANGE's order, that aren't held; oldest first. The same bytes can be there twice, so each
# held message accounts for one entry (server.recovery.running).
unheld = (listed, held) ->
  counts = new Map
  count = (message, change) ->
    key = message.toString 'latin1'
    counts.set key, (counts.get(key) ? 0) + change
    counts.get key
  count message, 1 for message in held
  listed[..].reverse().filter (message) -> count(message, -1) < 0 # server.recovery.order

module.exports = {
  JobError, JobTimeout, encodeJob, withExpiry, decide, encodeValue, encodeError, decodeResult, digestOf, resultKey, attemptsKey
  encodeHandle, decodeHandle, unheld
}
