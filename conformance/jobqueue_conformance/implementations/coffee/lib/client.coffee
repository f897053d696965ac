# Pushes jobs and settles each exactly once: by its result, its timeout, or the error that says why neither will come.
# One connection carries both the pushes and the subscription, so that a job is pushed only where its result can be heard,
# and one loss tells of both. It is opened at once, and again after a loss as soon as a job needs it.

{randomUUID} = require 'node:crypto'
{setTimeout: pause} = require 'node:timers/promises'
{ErrorReply} = require 'redis'
{Connection, checkUrl, backOffMs, reason} = require './connection'
{JobError, JobTimeout, encodeJob, withExpiry, decodeResult} = require './protocol'

LONGEST_TIMER_MS = 2 ** 31 - 2 # what a timer of Node.js can hold
LONGEST_EXPIRY_MS = 1e15 # which adds up to a number that is exact

# The promise of a result. `done` ends a chain: an error that was not caught is thrown as an uncaught exception.
class Job extends Promise
  done: (onResult, onError) ->
    @then(onResult, onError).catch (error) -> setImmediate -> throw error
    return

class Client
  constructor: ({url = 'redis://localhost:6379', @queue = 'job-queue', @silenceMs} = {}) ->
    @url = checkUrl url
    @channel = "#{@queue}:results:#{randomUUID()}" # client.channel.name
    @pushed = 0
    @pending = new Map # id → how to settle it; the absence of an id is what makes a second settlement impossible
    @connection = null # a promise, also of one that is still being opened
    @connected().catch -> # the first job will tell

  # Runs a method on some server; the job settles by the handler's value, or by a JobError. Without `timeoutMs` it waits as
  # long as the connection lasts. After `expiresInMs`, by Redis's clock, no server starts it any more.
  run: (method, parameters = null, {timeoutMs, expiresInMs} = {}) ->
    new Job (resolve, reject) =>
      throw new JobError 'not-queued', 'the client is closed' if @closed
      throw new RangeError 'timeoutMs is a number from 0' if timeoutMs? and not (timeoutMs >= 0)
      throw new RangeError 'expiresInMs is a number from 0' if expiresInMs? and not (0 <= expiresInMs <= LONGEST_EXPIRY_MS)
      id = "#{@pushed += 1}" # client.job.id
      message = encodeJob {method, parameters, channel: @channel, id, expires: expiresInMs?}
      entry = {resolve, reject, mayRun: no}
      if timeoutMs?
        expire = => @settle id, error: new JobTimeout timeoutMs # client.timeout.settles
        @expireIn entry, 1 + Math.ceil(timeoutMs), expire # client.timeout.local: timers may be a fraction early
      @pending.set id, entry # client.register.before-push
      @push id, message, (performance.now() + expiresInMs if expiresInMs?)
      return

  # Settles what is pending, and lets the process end.
  close: ->
    @closed = yes
    @settle id, error: new JobError 'connection-lost', 'the client was closed' for id from [@pending.keys()...]
    opening = @connection
    @connection = null
    try (await opening)?.close()
    return

  push: (id, message, expiresAt) ->
    try
      connection = await @connected() # client.subscribe.before-push
      message = withExpiry message, await connection.timeAt expiresAt if expiresAt?
    catch error
      return @settle id, error: new JobError 'not-queued', "the job can't be pushed: #{reason error}"
    return unless entry = @pending.get id # client.push.settled: its timeout was shorter than the way to Redis
    entry.mayRun = yes
    try
      await connection.redis.lPush @queue, message # client.push.left, client.push.once
    catch error
      if error instanceof ErrorReply # client.settle.not-queued
        @settle id, error: new JobError 'not-queued', error.message
      else
        @loseJob id, error
    return

  connected: ->
    @connection ?= @open().catch (error) =>
      @connection = null
      throw error

  open: ->
    connection = await Connection.open @url, @silenceMs
    try
      await connection.redis.subscribe @channel, @receive, yes
    catch error
      connection.close()
      throw error
    connection.lost.then (error) => @loseConnection error
    connection

  receive: (message) =>
    result = decodeResult message
    @settle result.id, result if result # client.settle.result, client.ignore.malformed
    return

  settle: (id, {error, value}) ->
    return unless entry = @pending.get id # client.settle.once, client.ignore.unknown
    @pending.delete id
    clearTimeout entry.timer
    if error then entry.reject error else entry.resolve value
    return

  # A timeout that is longer than a timer is a chain of them.
  expireIn: (entry, leftMs, expire) ->
    entry.timer = if leftMs > LONGEST_TIMER_MS
      setTimeout (=> @expireIn entry, leftMs - LONGEST_TIMER_MS, expire), LONGEST_TIMER_MS
    else
      setTimeout expire, leftMs
    return

  # A job whose push or result was on the lost connection waits for its timeout, or fails where it has none.
  loseJob: (id, error) ->
    return unless (entry = @pending.get id)?.mayRun and not entry.timer # client.lost.waits
    @settle id, error: new JobError 'connection-lost', "the job may have run: #{reason error}" # client.lost.settles

  # client.lost.resubscribes: here where jobs go on waiting, otherwise with the next job.
  loseConnection: (error) ->
    @connection = null
    @loseJob id, error for id from [@pending.keys()...]
    attempt = 0
    while @pending.size
      try return await @connected()
      catch then await pause backOffMs attempt++
    return

module.exports = {Client}
