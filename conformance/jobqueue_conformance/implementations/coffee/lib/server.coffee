# Claims jobs, runs their handlers, keeps what they return where the job asks for that, publishes it, and only then removes the
# job. A message is held from its claim until Redis has confirmed its removal, across lost connections too; an entry of the
# in-process list that isn't held is recovered. A refusal counts as a lost connection, except where Redis forbids a channel,
# or can't keep an answer, or count an entry.
#
# With takeover it claims only while it has the lease of its list, and adopts from the lists of others, which is a claim, too.

EventEmitter = require 'node:events'
{hostname} = require 'node:os'
{setTimeout: pause} = require 'node:timers/promises'
{checkUrl, backOffMs, reason} = require './connection'
{Pair} = require './pair'
{Lease, Ended} = require './lease'
{Scan} = require './scan'
{Suspects} = require './suspects'
{processorsKey, codeOf} = require './takeover'
{JobError, decide, encodeValue, encodeError, digestOf, resultKey, unheld} = require './protocol'

MAX_BLOCK_MS = 5000
LEASE_MS = 8000
GRACE_MS = 3600000
MAX_KEEP_MS = 3600000
KEEPING_MS = 5000 # how long it tries to keep an answer in a Redis that is full
MAX_STOP_MS = 10000 # how long a stop tries to reach Redis once no handler runs

class Server
  # `inProcess`, a whole key, wins over the processor's name, which has to be the same after a restart where takeover is off.
  # `longestBlockMs` is the longest `blockMs` that a server of its list ever had.
  constructor: (options = {}) ->
    {url, @queue, processor, inProcess, @concurrency, blockMs, longestBlockMs, @silenceMs, @prefixes, @keepMaxMs, @maxAttempts, @log} = options
    {takeover, leaseMs, graceMs} = options
    @url = checkUrl url ? 'redis://localhost:6379'
    @queue ?= 'job-queue'
    @inProcess = inProcess ? "#{@queue}:in-process:#{processor ? hostname()}" # server.list.name, server.list.stable
    @concurrency ?= 1
    @blockMs = Math.max 1, Math.min MAX_BLOCK_MS, blockMs ? 2000 # server.recovery.block
    @lookMs = Math.max @blockMs, longestBlockMs ? MAX_BLOCK_MS
    @prefixes ?= ['']
    @keepMaxMs ?= MAX_KEEP_MS
    @maxAttempts ?= 3
    @log ?= console.error
    @handlers = new Map
    @held = new Set # Buffers, each its own element even where bytes are equal
    @changes = new EventEmitter # 'change': something is no longer held, or a pair is there, or lost, or a stop is requested
    @suspects = new Suspects @queue, @changes
    @handling = 0 # handlers that run
    @isClaiming = @isAdopting = no # what is outstanding; an adoption is a claim, too
    @mayClaimLate = @mayAdoptLate = no # a claim of a lost connection can still take a job
    @isAllAnswered = yes # no claim was ever lost
    @setUpTakeover {leaseMs: leaseMs ? LEASE_MS, graceMs: graceMs ? GRACE_MS} if takeover ? yes

  setUpTakeover: ({leaseMs, graceMs}) ->
    unless leaseMs >= 3 * @blockMs # server.takeover.times
      throw new RangeError "leaseMs must be at least three times blockMs, which is #{@blockMs}"
    unless @inProcess.startsWith "#{@queue}:"
      throw new RangeError "inProcess must begin with '#{@queue}:', since others don't adopt from any other list; or set takeover: no"
    @lookMs = Math.min @lookMs, leaseMs # server.takeover.own-list
    @lease = new Lease {@queue, list: @inProcess, leaseMs, @blockMs, @log}
    @scan = new Scan {@queue, @lease, graceMs, @log}

  # Registers what runs a method: it takes the parameters, and returns a value or a promise, or throws.
  on: (method, handler) ->
    @handlers.set method, handler
    this

  # Serves until stop(); resolves when all that was claimed is answered. Rejects where a stop can't reach Redis for that, and, when
  # all that runs is answered, where another life has the name or a permission is missing.
  run: -> @running ?= @serve().finally => @lease?.end()

  # Claims nothing more, and resolves as run() does.
  stop: ->
    @stopping = yes
    @quietSince = performance.now()
    @changes.emit 'change'
    @running

  serve: ->
    await @lease?.begin()
    attempt = 0
    loop # server.connection.survives
      try
        @pair = await Pair.open @url, @silenceMs, => @changes.emit 'change'
        @changes.emit 'change'
        await @serveOver @pair, -> attempt = 0
        return
      catch error
        throw error if error instanceof Ended
        @log "jobqueue: #{reason error}"
        if @isClaiming
          @isAllAnswered = no
          @mayClaimLate = yes
          @mayAdoptLate or= @isAdopting
        @isClaiming = @isAdopting = no
        return if @stopping and not @ended and not @held.size and not @mayClaimLate
        # server.stop.unreachable, server.stop.exit
        isQuiet = not @handling and performance.now() - @quietSince > MAX_STOP_MS
        throw @ended ? error if isQuiet and (@stopping or @ended)
      finally
        @lease?.rest()
        @pair?.close()
        @pair = null
      await pause Math.min backOffMs(attempt++), (@lease?.leaseMs ? Infinity) / 3

  # One life of a pair: returns when stopped and drained, throws when the pair is lost or refused something.
  serveOver: (pair, onClaim) ->
    try
      await @claimOver pair, onClaim unless @ended
    catch error
      throw error unless error instanceof Ended
      @ended = error # server.takeover.lost-name
      @quietSince = performance.now()
    while @held.size # server.stop.drains
      pair.check()
      await EventEmitter.once @changes, 'change'
    throw @ended if @ended
    await @lease?.release pair, @isAllAnswered # server.takeover.releases

  # Recovers and claims until it is stopped.
  claimOver: (pair, onClaim) ->
    return unless await @mayBegin pair
    lookAgainAt = performance.now() + @lookMs
    await @recover pair # server.recovery.first, server.recovery.reconnect
    loop
      await @room pair
      break if @stopping and not @mayClaimLate # server.stop.no-claim
      leftMs = lookAgainAt - performance.now()
      if leftMs <= 0
        lookAgainAt = performance.now() + @lookMs # server.recovery.stray
        await @recover pair # server.recovery.second-look
        @mayClaimLate = @mayAdoptLate = no
        continue
      if @stopping # server.stop.drains: what a lost claim takes was claimed in this life
        await pause leftMs
        continue
      if @scan?.isDue() # server.takeover.first
        await @lookAfter pair
        continue
      await @lease?.beforeClaim pair
      continue if @stopping
      @hasClaimed = @isClaiming = yes
      timeoutSeconds = Math.max(1, Math.min @blockMs, leftMs, @scan?.waitMs() ? Infinity) / 1000
      # server.claim.atomic, server.claim.order
      message = await pair.claims.redis.blMove @queue, @inProcess, 'RIGHT', 'LEFT', timeoutSeconds
      @isClaiming = no
      await @begin pair, message if message
      onClaim()
    return

  # Resolves to whether it has the right to claim; no where a stop came first.
  mayBegin: (pair) ->
    return @lease.acquire pair, (=> @stopping) if @lease
    return yes if @hasAsked
    [registered] = await pair.replies.all [['HGET', processorsKey(@queue), @inProcess]]
    isRefused = registered instanceof Error
    throw registered if isRefused and codeOf(registered) not in ['NOPERM', 'WRONGTYPE']
    @hasAsked = yes
    return yes if isRefused or not registered
    throw new Ended "servers with takeover would adopt from #{@inProcess}: start this one with takeover, or unregister the list"

  # Does the next thing that is due in the registry.
  lookAfter: (pair) ->
    await @scan.update pair
    return unless @scan.due.length
    await @lease.beforeClaim pair
    return if @stopping # server.takeover.stops
    @hasClaimed = @isClaiming = @isAdopting = yes
    message = await @scan.adopt pair
    @isClaiming = @isAdopting = no
    return unless message
    @suspects.add message if @maxAttempts
    await @begin pair, message, @maxAttempts

  # Starts what isn't running. Called only while no claim is outstanding; what is held is noted before Redis is asked
  # (server.recovery.quiet). A stop leaves to the next life what an earlier one claimed. The connection is that of the removals,
  # so that after a failover no late copy of the list shows what was removed on another server.
  recover: (pair) ->
    held = [@held...]
    listed = await pair.replies.redis.lRange @inProcess, 0, -1
    areSuspects = @maxAttempts and (not @hasClaimed or @mayAdoptLate) # server.attempts.counts
    for {message, isSuspect} in @suspects.among unheld(listed, held), areSuspects
      await @room pair
      return if @stopping and not @hasClaimed
      await @begin pair, message, isSuspect
    return

  # Resolves when one more handler may run (server.concurrency.limit).
  room: (pair) ->
    loop
      pair.check()
      return if @held.size < @concurrency
      await EventEmitter.once @changes, 'change'

  # Starts a message for which there is room, and resolves then; a suspect only once it may run beside the others, and is counted.
  begin: (pair, message, isSuspect) ->
    if isSuspect
      before = await @suspects.apart pair, message
      return if @stopping and not @hasClaimed
      starts = await @suspects.count pair, message, before
    @lease?.check pair # server.takeover.lapse
    @start pair, message, starts
    return

  # Never rejects.
  start: (pair, message, starts) ->
    @held.add message
    @suspects.started message, starts if starts?
    outcome = await @answer pair, message, starts
    await @finish message, outcome if outcome
    @suspects.ended message, outcome?
    @held.delete message
    @changes.emit 'change'

  # What to do about a message once its handler, if it has one, has run: `{dead}` or `{to, answer, spent}`. Nothing, where it
  # may have become another's while it waited for its start: a look will tell. Never rejects.
  answer: (pair, message, starts = 0) ->
    decision = decide message, {@prefixes, @keepMaxMs, starts, @maxAttempts, isHandled: (method) => @handlers.has method}
    {to, id, method, parameters, expiresAtMs} = decision
    return decision unless method
    if expiresAtMs? and await @isOver expiresAtMs # server.expiry.refuses
      return {to, answer: encodeError id, new JobError 'expired', 'the job expired before it was started'}
    return if @lease and not @lease.isFresh pair # server.takeover.lapse
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
