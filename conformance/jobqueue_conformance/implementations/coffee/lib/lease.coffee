# The lease of a server's list: whether it may claim, and start what it has claimed. While it serves, it renews the lease, on the
# connection on which nothing blocks. Once the lease has lapsed, others may have taken what lies on the list; so the pair counts as
# lost, and nothing is started that a look at the list doesn't find again.
#
# A renewal counts only for claims of the same pair, since another one may have reached another Redis.

{setTimeout: pause} = require 'node:timers/promises'
{Life} = require './life'
{RENEW, RELEASE, UNREGISTER, INHERIT, evalOf, processorsKey, leaseKey, acquired, isForbidden} = require './takeover'

RENEWALS = 4 # in the time of a lease; the protocol wants 3
MAX_WAIT_MS = 500 # between two looks at the lease of another life

# The server can't go on: another life has its name, or a permission is missing. The message says what to do about it.
class Ended extends Error

class Lease
  constructor: ({@queue, @list, @leaseMs, @blockMs, @log}) ->
    @key = leaseKey @queue, @list
    @life = new Life
    @isHeld = no # whether this life has ever had it
    @renewed = null # the last time: `{pair, sent}`
    @registeredBy = null # the pair that has registered the list
    @isNew = null # whether the first registration of this life created it

  # To be awaited before the first acquire().
  begin: -> @life.begin()

  # Takes the lease, or waits until it is free; before anything else on each pair. Resolves to no where a stop came first.
  acquire: (pair, isStopping) ->
    isWaiting = no
    loop # server.takeover.lease-first
      sent = moment()
      found = acquired await pair.replies.all [
        ['SET', @key, @life.token, 'NX', 'PX', String @leaseMs]
        ['GET', @key]
        ['PTTL', @key]
        ['HSET', processorsKey(@queue), @list, '0'] # server.takeover.registers
      ]
      @isNew ?= found.isNew
      checkPermission found.refusal if found.refusal and not @isHeld
      break if found.holder is @life.token
      throw found.refusal ? new Error "the lease of #{@list} ended at once" unless found.holder
      if await @life.isOver found.holder # server.takeover.waits
        await @eval pair, INHERIT, found.holder, @life.token, String @leaseMs
        continue
      if @isHeld # server.takeover.lost-name
        throw new Ended "another server has taken over the list #{@list}: give each server a name of its own"
      @log "jobqueue: waiting for the end of the lease of #{@list}" unless isWaiting
      isWaiting = yes
      return no if isStopping()
      await pause Math.max 10, Math.min MAX_WAIT_MS, @leaseMs / 3, found.leftMs ? MAX_WAIT_MS
      pair.check()
    @registeredBy = pair if found.isRegistered
    if found.isTaken and @isHeld
      @renewed = {pair, sent}
    else # at the start, too, to learn whether Redis allows the script
      throw new Error "the lease of #{@list} has lapsed" unless await @extend pair
    @isHeld = yes
    @renewals = setInterval (=> @renew pair), @leaseMs / RENEWALS
    yes

  # Whether it was renewed by this pair, and lasts for so long at least.
  isFresh: (pair, forMs = 0) -> @renewed?.pair is pair and elapsedMs(@renewed.sent) <= @leaseMs - forMs

  # Throws where what was claimed or found by this pair may be another's by now.
  check: (pair, forMs) ->
    pair.check()
    return if @isFresh pair, forMs
    pair.lose new Error 'the lease was not renewed in time' # server.takeover.lapse
    pair.check()

  # To be awaited right before a claim; rejects where it mustn't be sent.
  beforeClaim: (pair) ->
    unless @registeredBy is pair # server.takeover.registers: Redis has refused it before
      await pair.replies.redis.sendCommand ['HSET', processorsKey(@queue), @list, '0']
      @registeredBy = pair
    @check pair, @blockMs # server.takeover.within-lease

  # Gives it up once all is drained; and the registration of an empty list, if no claim of any life can be late.
  release: (pair, isAllAnswered) ->
    return unless @isHeld
    @rest()
    commands = [evalOf RELEASE, [@key], @life.token]
    if @isNew and isAllAnswered # server.takeover.own-registration
      commands.unshift evalOf UNREGISTER, [@key, processorsKey(@queue), @list], @life.token # server.takeover.unregisters
    await pair.replies.all commands

  # Renews no more, until the next acquire().
  rest: -> clearInterval @renewals

  # Ends this life.
  end: -> @life.end()

  renew: (pair) -> # server.takeover.renews
    try
      @check pair, @blockMs
      return if @isRenewing
      @isRenewing = yes
      pair.lose new Error "the lease of #{@list} has lapsed" unless await @extend pair # server.takeover.lapse
    catch error
      pair.lose error
    finally
      @isRenewing = no

  # Resolves to whether it was still its own.
  extend: (pair) ->
    sent = moment()
    isExtended = 1 is await @eval pair, RENEW, @life.token, String @leaseMs
    @renewed = {pair, sent} if isExtended
    isExtended

  eval: (pair, script, values...) ->
    try
      await pair.replies.redis.sendCommand evalOf script, [@key], values...
    catch error
      checkPermission error unless @isHeld
      throw error

checkPermission = (error) ->
  throw new Ended "takeover needs more permissions in Redis than this user has: #{error.message}; give it those of
    the protocol's section 12, or set takeover: no" if isForbidden error

moment = -> {steady: performance.now(), wall: Date.now()}

# The larger by two clocks: only that of the wall tells for how long the machine was suspended, and somebody may set it back.
elapsedMs = ({steady, wall}) -> Math.max performance.now() - steady, Date.now() - wall

module.exports = {Lease, Ended, checkPermission}
