# The protocol between bytes and values, as pure functions: what a message means, what an answer looks like, and what has
# to be recovered. Nothing here connects, waits, reads a clock or keeps state. Messages are Buffers from end to end: whoever
# removes one needs the very bytes that Redis holds.

MAX_BYTES = 1024 * 1024

# How a job ends that has no result. `code` is a code of spec/errors.json, or an application's own, with a dot in it.
class JobError extends Error
  constructor: (code, message, data) ->
    super message
    @name = 'JobError'
    @code = code
    @data = data if data isnt undefined

utf8 = new TextDecoder 'utf-8', fatal: yes, ignoreBOM: yes

isName = (value) -> typeof value is 'string' and value isnt ''

# The JSON object that the bytes spell, or undefined.
decodeObject = (bytes) ->
  try
    value = JSON.parse utf8.decode bytes
    value if value isnt null and typeof value is 'object' and not Array.isArray value
  catch
    undefined

# JSON.stringify writes NaN as null and leaves functions out; a value that can't be written is the caller's to know.
strict = (name, value) ->
  switch typeof value
    when 'number' then throw new TypeError "#{value} is no JSON value" unless Number.isFinite value
    when 'function', 'symbol' then throw new TypeError "a #{typeof value} is no JSON value"
  value

# As `strict`, and without lone surrogates, which parsers read differently.
portable = (name, value) ->
  throw new TypeError 'a lone surrogate is not portable' if /\p{Surrogate}/u.test(name) or
    typeof value is 'string' and /\p{Surrogate}/u.test value
  strict name, value

# The bytes to push for a job; throws where the caller asked for what no job can hold.
encodeJob = ({method, parameters, channel, id}) ->
  throw new TypeError 'a method is a non-empty string' unless isName method
  # client.job.form, client.job.parameters
  bytes = Buffer.from JSON.stringify {method, parameters: parameters ? null, channel, id}, portable
  throw new RangeError "a job of #{bytes.length} bytes exceeds 1 MiB" if bytes.length > MAX_BYTES # client.job.size
  bytes

# What a server does about a message: `{dead: reason}`, `{channel, answer}` or `{channel, id, run: method, parameters}`.
# The order of the lines is the order of the table in the protocol's section 7.2.
decide = (bytes, {isHandled, prefixes}) ->
  job = decodeObject bytes
  return {dead: 'it is no JSON object'} unless job
  {channel, id, method, parameters = null} = job # server.run.parameters
  return {dead: 'its channel is no name'} unless isName channel
  return {dead: 'its id is no name'} unless isName id
  if prefixes and not prefixes.some((prefix) -> channel.startsWith prefix) # server.channel-prefix.confined
    return {dead: 'its channel has none of the allowed prefixes'}
  unless isName method # server.run.invalid-job
    return {channel, answer: encodeError id, new JobError 'invalid-job', 'the method is no name'}
  unless isHandled method # server.run.method-not-found
    return {channel, answer: encodeError id, new JobError 'method-not-found', "no handler is named '#{method}'"}
  {channel, id, run: method, parameters}

# The bytes to publish for what a handler returned: its value, or the error that the value can't be sent.
encodeValue = (id, value) ->
  try
    bytes = Buffer.from JSON.stringify {id, result: value ? null}, strict # server.result.value
  catch error # server.result.not-serializable
    return encodeError id, new JobError 'result-not-serializable', error.message
  if bytes.length > MAX_BYTES # server.result.too-large
    return encodeError id, new JobError 'result-too-large', "the result has #{bytes.length} bytes"
  bytes

# The bytes to publish for what a handler threw: a JobError chose its code, anything else is a `handler-error`.
encodeError = (id, thrown) ->
  error = if thrown instanceof JobError then thrown else new JobError 'handler-error', "#{thrown?.message ? thrown}"
  try
    bytes = Buffer.from JSON.stringify {id, error: {code: error.code, message: error.message, data: error.data}}, strict
    return bytes unless bytes.length > MAX_BYTES
  catch
    # Only `data` can be unwritable.
  Buffer.from JSON.stringify {id, error: {code: error.code, message: error.message[...1000]}}

# What a message on a client's channel says: `{id, value}` or `{id, error}`; undefined where it is no result.
decodeResult = (bytes) ->
  message = decodeObject bytes
  return unless message and isName message.id
  {id, result, error} = message
  return if (result is undefined) is (error is undefined) # neither, or both
  return {id, value: result} if error is undefined
  return unless typeof error?.code is 'string' and typeof error.message is 'string'
  {id, error: new JobError error.code, error.message, error.data}

# What lies on the in-process list, given as LRANGE gives it, although nobody runs it; oldest first. Identical bytes can
# lie there several times, so each held message accounts for one entry (server.recovery.running).
unheld = (listed, held) ->
  counts = new Map
  for message in held
    key = message.toString 'latin1'
    counts.set key, 1 + (counts.get(key) ? 0)
  stray for stray in listed[..].reverse() when do ->
    key = stray.toString 'latin1'
    count = counts.get(key) ? 0
    counts.set key, count - 1
    count < 1

module.exports = {JobError, encodeJob, decide, encodeValue, encodeError, decodeResult, unheld}
