# Claims jobs, runs their handlers, keeps what they return where the job asks for that, publishes it, and only then removes the
# job. A message is held from its claim until Redis has confirmed its removal, across lost connections too; an entry of the
# in-process list that isn't held is recovered. A refusal counts as a lost connection, except where Redis forbids a channel,
# or can't keep an answer, or count an entry.
#
# What is found before the first claim is a suspect: it was on the list when an earlier life ended, and has perhaps ended it. So
# it is counted right before it starts, and given up when it was counted too often.
#
# Two connections live and die together: one waits in claims, the other looks, publishes and removes. Neither is closed
# while a claim waits, for Redis may be moving a job to it.

EventEmitter = require 'node:events'
{hostname} = require 'node:os'
{setTimeout: pause} = require 'node:timers/promises'
{ErrorReply} = require 'redis'
{Connection, checkUrl, backOffMs, reason} = require './connection'
{JobError, decide, encodeValue, encodeError, digestOf, resultKey, attemptsKey, unheld} = require './protocol'

MAX_BLOCK_MS = 5000
MAX_KEEP_MS = 3600000
KEEPING_MS = 5000 # how long it tries to keep an answer in a Redis that is full
COUNTED_S = 259200 # how long a count lives: three days
MAX_STOP_MS = 10000 # how long a stop tries to reach Redis once no handler runs

class Pair
  @open: (url, silenceMs, onLost) ->
    claims = await Connection.open url, silenceMs
    try
      new Pair claims, await Connection.open(url, silenceMs), onLost
    catch error
      claims.close()
      throw error

  constructor: (@claims, @replies, @onLost) ->
    connection.lost.then ((error) => @lose error) for connection in [@claims, @replies]

  lose: (error) ->
    @error ?= error
    @onLost()

  check: -> throw @error if @error

  close: -> connection.close() for connection in [@claims, @replies]

class Server
  # `inProcess`, a whole key, wins over the processor's name, which has to be the same after a restart.
  # `longestBlockMs` is the longest `blockMs` that a server of its list ever had.
  constructor: (options = {}) ->
    {url, @queue, processor, inProcess, @concurrency, blockMs, longestBlockMs, @silenceMs, @prefixes, @keepMaxMs, @maxAttempts, @log} = options
    @url = checkUrl url ? 'redis://localhost:6379'
    @queue ?= 'job-queue'
    @inProcess = inProcess ? "#{@queue}:in-process:#{processor ? hostname()}" # server.list.name, server.list.stable
    @concurrency ?= 1
    @blockMs = Math.max 1, Math.min MAX_BLOCK_MS, blockMs ? 2000 # server.recovery.block
    @longestBlockMs = Math.max @blockMs, longestBlockMs ? MAX_BLOCK_MS
    @prefixes ?= ['']
    @keepMaxMs ?= MAX_KEEP_MS
    @maxAttempts ?= 3
    @log ?= console.error
    @handlers = new Map
    @held = new Set # Buffers, each its own element even where bytes are equal
    @suspects = new Map # the held ones, and how often each was started; undefined until it is counted
    @changes = new EventEmitter # 'change': something is no longer held, or was counted, or a pair is there, or lost, or a stop is requested
    @handling = 0 # handlers that run
    @isClaiming = no
    @mayClaimLate = no # a claim of a lost connection can still take a job

  # Registers what runs a method: it takes the parameters, and returns a value or a promise, or throws.
  on: (method, handler) ->
    @handlers.set method, handler
    this

  # Serves until stop(); resolves when all that was claimed is answered, and rejects where a stop can't reach Redis for that.
  run: -> @running ?= @serve()

  # Claims nothing more, and resolves as run() does.
  stop: ->
    @stopping = yes
    @quietSince = performance.now()
    @changes.emit 'change'
    @running

  serve: ->
    attempt = 0
    loop # server.connection.survives
      try
        @pair = await Pair.open @url, @silenceMs, => @changes.emit 'change'
        @changes.emit 'change'
        await @serveOver @pair, -> attempt = 0
        return
      catch error
        @log "jobqueue: #{reason error}"
        @mayClaimLate or= @isClaiming
        @isClaiming = no
        return if @stopping and not @held.size and not @mayClaimLate
        # server.stop.unreachable, server.stop.exit
        throw error if @stopping and not @handling and performance.now() - @quietSince > MAX_STOP_MS
      finally
        @pair?.close()
        @pair = null
      await pause backOffMs attempt++

  # One life of a pair: returns when stopped and drained, throws when the pair is lost or refused something.
  serveOver: (pair, onClaim) ->
    await @recover pair # server.recovery.first, server.recovery.reconnect
    lookAgainAt = performance.now() + @longestBlockMs
    loop
      await @room pair
      break if @stopping and not @mayClaimLate # server.stop.no-claim
      leftMs = lookAgainAt - performance.now()
      if leftMs <= 0
        await @recover pair # server.recovery.second-look
        @mayClaimLate = no
        lookAgainAt = performance.now() + @longestBlockMs # server.recovery.stray
        continue
      if @stopping # server.stop.drains: what a lost claim takes was claimed in this life
        await pause leftMs
        continue
      @hasClaimed = @isClaiming = yes
      timeoutSeconds = Math.max(1, Math.min(@blockMs, leftMs)) / 1000
      # server.claim.atomic, server.claim.order
      message = await pair.claims.redis.blMove @queue, @inProcess, 'RIGHT', 'LEFT', timeoutSeconds
      @isClaiming = no
      @start message if message
      onClaim()
    while @held.size # server.stop.drains
      pair.check()
      await EventEmitter.once @changes, 'change'
    return

  # Starts what isn't running. Called only while no claim is outstanding; what is held is noted before Redis is asked
  # (server.recovery.quiet). A stop leaves to the next life what an earlier one claimed.
  recover: (pair) ->
    held = [@held...]
    listed = await pair.replies.redis.lRange @inProcess, 0, -1
    for message in unheld listed, held
      await @room pair
      isSuspect = @maxAttempts and not @hasClaimed # server.attempts.counts
      before = await @apart pair, message if isSuspect
      return if @stopping and not @hasClaimed
      if isSuspect then @startSuspect message, before else @start message
    return

  # Resolves when one more handler may run (server.concurrency.limit).
  room: (pair) ->
    loop
      pair.check()
      return if @held.size < @concurrency
      await EventEmitter.once @changes, 'change'

  # Resolves, when a suspect may run beside those that run, to how often it was counted before (server.attempts.alone).
  apart: (pair, message) ->
    before = try Number await pair.replies.redis.get attemptsKey @queue, digestOf message
    catch error
      throw error unless error instanceof ErrorReply
      0
    loop
      pair.check()
      return before if not @suspects.size or not before and [@suspects.values()...].every (starts) -> starts is 1
      await EventEmitter.once @changes, 'change'

  startSuspect: (message, before) ->
    @held.add message
    @suspects.set message, undefined
    starts = await @count message, before
    @suspects.set message, starts
    @changes.emit 'change'
    await @start message, starts
    @suspects.delete message
    @changes.emit 'change'

  # Counts one start, and resolves to the count. Where the reply is lost, GET tells whether Redis has counted.
  count: (message, before) ->
    key = attemptsKey @queue, digestOf message
    loop
      await EventEmitter.once @changes, 'change' until (pair = @pair) and not pair.error
      {redis} = pair.replies
      try
        starts = Number await redis.get key
        return starts if starts > before
        [starts] = await redis.multi().incr(key).expire(key, COUNTED_S).exec()
        return starts
      catch error
        return 1 if error instanceof ErrorReply # server.attempts.refused
        pair.lose error

  start: (message, starts = 0) ->
    @held.add message
    await @finish message, await @answer message, starts
    @held.delete message
    @changes.emit 'change'

  # What to do about a message once its handler, if it has one, has run: `{dead}` or `{to, answer, spent}`. Never rejects.
  answer: (message, starts) ->
    decision = decide message, {@prefixes, @keepMaxMs, starts, @maxAttempts, isHandled: (method) => @handlers.has method}
    {to, id, method, parameters, expiresAtMs} = decision
    return decision unless method
    if expiresAtMs? and await @isOver expiresAtMs # server.expiry.refuses
      return {to, answer: encodeError id, new JobError 'expired', 'the job expired before it was started'}
    @handling += 1
    try
      {to, answer: encodeValue id, await @handlers.get(method) parameters} # server.run.handler
    catch error
      unless error instanceof JobError # which is an answer
        @log "jobqueue: the handler of '#{method}' failed for job #{id} of #{to.channel}:", error
      {to, answer: encodeError id, error} # server.run.goes-on
    finally
      @handling -= 1
      @quietSince = performance.now()

  # Resolves to whether Redis's clock is past a time. The job that asks has its place already.
  isOver: (atMs) ->
    loop
      await EventEmitter.once @changes, 'change' until (pair = @pair) and not pair.error
      try return atMs < await pair.replies.time()
      catch error
        return no if error.message.startsWith 'NOPERM' # server.expiry.forbidden
        pair.lose error

  # Does it, as often as it takes until Redis has confirmed the removal (server.publish.again, server.remove.again).
  finish: (message, {dead, to, answer, spent}) ->
    loop
      await EventEmitter.once @changes, 'change' until (pair = @pair) and not pair.error
      {redis} = pair.replies
      try
        await @keep redis, message, answer, to if to?.keepMs and not dead # server.kept.stores
        dead ?= await(publish redis, to.channel, answer) ? spent # server.publish.before-remove, server.publish.refused
        if dead
          @log "jobqueue: a message of #{message.length} bytes is dead: #{dead}"
          await redis.lPush "#{@queue}:dead", message # server.dead-list.keeps
        removed = await redis.lRem @inProcess, -1, message # server.remove.exact-bytes
        @log 'jobqueue: a finished job had already been removed' unless removed # server.remove.gone
        return
      catch error
        pair.lose error

  # Stores an answer, where none is stored, before it is published. Redis may be full for a while, or forbid it.
  keep: (redis, message, answer, to) ->
    key = resultKey @queue, digestOf message
    attempt = 0
    loop
      try # server.kept.first
        return await redis.set key, answer, condition: 'NX', expiration: {type: 'PX', value: to.keepMs}
      catch error
        throw error unless /^(OOM|NOPERM)/.test error.message
        to.keepUntil ?= performance.now() + KEEPING_MS
        if error.message.startsWith('NOPERM') or @stopping or performance.now() > to.keepUntil # server.kept.refused
          @log "jobqueue: an answer can't be kept: #{reason error}"
          to.keepMs = 0
          return
      await pause backOffMs attempt++

# Resolves to nothing, or to why the job is dead.
publish = (redis, channel, answer) ->
  try
    await redis.publish channel, answer # server.publish.channel
    return
  catch error
    # server.publish.forbidden-command: the command's refusal is a mistake of the operator, not of the job
    throw error unless error.message.startsWith('NOPERM') and /channel/.test error.message
    "Redis forbids its channel: #{error.message}" # server.publish.noperm

module.exports = {Server}
