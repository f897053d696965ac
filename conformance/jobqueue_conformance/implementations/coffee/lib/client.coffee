# Pushes jobs and settles each exactly once: by its result, its timeout, or the error that says why neither will come.
# One connection carries both the pushes and the subscription, so that a job is pushed only where its result can be heard,
# and one loss tells of both. It is opened at once, and again after a loss as soon as a job needs it. What the client missed
# meanwhile it looks up where the job asked to keep its result.

{randomUUID} = require 'node:crypto'
{setTimeout: pause} = require 'node:timers/promises'
{ErrorReply} = require 'redis'
{Connection, checkUrl, backOffMs, isBusy, reason} = require './connection'
{
  JobError, JobTimeout, encodeJob, withExpiry, decodeResult, digestOf, resultKey, encodeHandle, decodeHandle
} = require './protocol'

LONGEST_TIMER_MS = 2 ** 31 - 2 # what a timer of Node.js can hold
LONGEST_EXPIRY_MS = 1e15 # which adds up to a number that is exact

# The promise of a result. `done` ends a chain: an error that was not caught is thrown as an uncaught exception. `handle`, of a
# job that is detached, is the promise of its handle.
class Job extends Promise
  done: (onResult, onError) ->
    @then(onResult, onError).catch (error) -> setImmediate -> throw error
    return

class Client
  constructor: ({url = 'redis://localhost:6379', @queue = 'job-queue', @silenceMs} = {}) ->
    @url = checkUrl url
    @channel = @newChannel()
    @calls = 0
    @pending = new Map # name → how to settle what was called; the absence of a name is what makes a second settlement impossible
    @connection = null # a promise, also of one that is still being opened
    @connected().catch -> # the first job will tell

  # Runs a method on some server; the job settles by the handler's value, or by a JobError. Without `timeoutMs` it waits as
  # long as the connection lasts, or `keepMs` longer, for which the result is kept. After `expiresInMs`, by Redis's clock, no
  # server starts it any more. If `detached`, the job has a handle, with which any client can collect the result, too.
  run: (method, parameters = null, {timeoutMs, expiresInMs, keepMs, detached} = {}) ->
    pushed = null
    job = new Job (resolve, reject) =>
      throw new JobError 'not-queued', 'the client is closed' if @closed
      throw new RangeError 'timeoutMs is a number from 0' if timeoutMs? and not (timeoutMs >= 0)
      throw new RangeError 'expiresInMs is a number from 0' if expiresInMs? and not (0 <= expiresInMs <= LONGEST_EXPIRY_MS)
      throw new RangeError 'keepMs is a number from 1' if keepMs? and not (1 <= keepMs <= Number.MAX_SAFE_INTEGER)
      throw new TypeError 'a detached job needs keepMs' if detached and not keepMs?
      id = "#{@calls += 1}" # client.job.id
      channel = if detached then @newChannel() else @channel # client.kept.own-channel
      message = encodeJob {method, parameters, channel, id, keepMs, expires: expiresInMs?}
      entry = {name: id, id, channel, keepMs, resolve, reject, mayRun: no}
      @add entry, timeoutMs # client.register.before-push
      pushed = @push entry, message, (performance.now() + expiresInMs if expiresInMs?)
      return
    job.handle = pushed ? job if detached
    job

  # Settles by the result of the job that has this handle, which is kept or still to come.
  collect: (handle, {timeoutMs} = {}) ->
    new Job (resolve, reject) =>
      throw new JobError 'connection-lost', 'the client is closed' if @closed
      throw new RangeError 'timeoutMs is a number from 0' unless timeoutMs >= 0
      {digest, id, channel} = decodeHandle handle
      entry = {name: "#{handle} #{@calls += 1}", id, channel, key: resultKey(@queue, digest), resolve, reject, mayRun: yes}
      @add entry, timeoutMs
      @hearSoon entry
      return

  # Settles what is pending, and lets the process end.
  close: ->
    @closed = yes
    @settle entry, error: new JobError 'connection-lost', 'the client was closed' for entry from [@pending.values()...]
    opening = @connection
    @connection = null
    try (await opening)?.close()
    return

  newChannel: -> "#{@queue}:results:#{randomUUID()}" # client.channel.name

  add: (entry, timeoutMs) ->
    unless entry.channel is @channel
      entry.listener = (message) => @receiveFor entry, message
    if timeoutMs?
      expire = => @settle entry, error: new JobTimeout timeoutMs # client.timeout.settles
      @expireIn entry, timeoutMs, expire
    @pending.set entry.name, entry
    return

  # Resolves to the job's handle where its result is kept and Redis has the job, else to nothing; never rejects.
  push: (entry, message, expiresAt) ->
    try
      connection = await @connected() # client.subscribe.before-push
      await @hear connection, entry if entry.listener
      message = withExpiry message, await connection.timeAt expiresAt if expiresAt?
    catch error
      return @settle entry, error: new JobError 'not-queued', "the job can't be pushed: #{reason error}"
    return unless @pending.has entry.name # client.push.settled: its timeout was shorter than the way to Redis
    digest = digestOf message if entry.keepMs
    entry.key = resultKey @queue, digest if digest
    entry.mayRun = yes
    try
      await connection.redis.lPush @queue, message # client.push.left, client.push.once
    catch error
      if error instanceof ErrorReply # client.settle.not-queued
        @settle entry, error: new JobError 'not-queued', error.message
      else
        @loseJob entry, error
      return
    entry.isQueued = yes
    encodeHandle {digest, entry...} if digest

  connected: ->
    @connection ?= @open().catch (error) =>
      @connection = null
      throw error

  open: ->
    connection = await Connection.open @url, @silenceMs
    try
      await connection.redis.subscribe @channel, @receive, yes
      entries = [@pending.values()...]
      await @hear connection, entry for entry in entries when entry.listener
    catch error
      connection.close()
      throw error
    connection.lost.then (error) => @loseConnection error
    @look connection, entries # client.kept.looks
    connection

  # Subscribes to the channel that a job has to itself.
  hear: (connection, entry) ->
    return if entry.heardOn is connection
    try
      await connection.redis.subscribe entry.channel, entry.listener, yes
      entry.heardOn = connection
    catch error
      throw error if isBusy(error) or error not instanceof ErrorReply
      code = if entry.mayRun then 'connection-lost' else 'not-queued'
      @settle entry, error: new JobError code, "the result can't be received: #{error.message}"
    return

  # Subscribes to what is to be collected, and then looks, now or with the next connection (client.kept.collects).
  hearSoon: (entry) ->
    attempt = 0
    while @pending.has(entry.name) and not entry.heardOn
      try
        connection = await @connected()
        unless entry.heardOn
          await @hear connection, entry
          await @look connection, [entry]
      catch then await pause backOffMs attempt++
    return

  leave: ({heardOn, channel, listener}) ->
    try await heardOn?.redis.unsubscribe channel, listener, yes
    return # where its connection is lost, so is the subscription

  # Settles what is unsettled by results that are kept. One is asked for after the other: Redis disconnects a subscriber for
  # whom too many replies wait. A busy Redis is asked again.
  look: (connection, entries) ->
    for entry in entries when entry.key
      attempt = 0
      while @pending.has entry.name
        try
          message = await connection.redis.get entry.key
          @receiveFor entry, message if message
          break
        catch error
          return unless error instanceof ErrorReply
          break unless isBusy error # what Redis refuses to tell may be published yet
          await pause backOffMs attempt++
    return

  receive: (message) =>
    result = decodeResult message # client.ignore.malformed
    entry = @pending.get result?.id # client.ignore.unknown
    @settle entry, result if entry?.channel is @channel # client.settle.result
    return

  receiveFor: (entry, message) ->
    result = decodeResult message
    @settle entry, result if result?.id is entry.id
    return

  settle: (entry, {error, value}) ->
    return unless @pending.delete entry.name # client.settle.once
    clearTimeout entry.timer
    @leave entry
    if error then entry.reject error else entry.resolve value
    return

  # A timeout that is longer than a timer is a chain of them.
  expireIn: (entry, leftMs, expire) ->
    entry.timer = if leftMs > LONGEST_TIMER_MS
      setTimeout (=> @expireIn entry, leftMs - LONGEST_TIMER_MS, expire), LONGEST_TIMER_MS
    else
      setTimeout expire, 1 + Math.ceil leftMs # client.timeout.local: timers may be a fraction early
    return

  # A job whose push or result was on the lost connection waits for its timeout; where it has none, for as long as its result
  # is kept since the first loss, or it fails.
  loseJob: (entry, error) ->
    return if not entry.mayRun or entry.timer or not @pending.has entry.name # client.lost.waits
    lost = => @settle entry, error: new JobError 'connection-lost', "the job may have run: #{reason error}"
    return lost() unless entry.isQueued and entry.keepMs # client.lost.settles
    @expireIn entry, entry.keepMs, lost # client.kept.waits, client.kept.lost

  # client.lost.resubscribes: here where jobs go on waiting, otherwise with the next job.
  loseConnection: (error) ->
    @connection = null
    @loseJob entry, error for entry from [@pending.values()...]
    attempt = 0
    while @pending.size
      try return await @connected()
      catch then await pause backOffMs attempt++
    return

module.exports = {Client}
