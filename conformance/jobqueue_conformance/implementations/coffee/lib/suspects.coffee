# The entries that have perhaps ended a server: what is found before the first claim, since it was on the list when an earlier
# life ended, and what is adopted. Where the reply to an adoption is lost, the looks that follow may find what it has moved. A
# suspect is counted in Redis right before it starts, once in a life, and given up when it was counted too often.

EventEmitter = require 'node:events'
{ErrorReply} = require 'redis'
{digestOf, attemptsKey} = require './protocol'

COUNTED_S = 259200 # how long a count lives: three days

# How many times each of several things is there.
class Multiset
  constructor: (things = []) ->
    @counts = new Map
    @change thing, 1 for thing in things

  of: (thing) -> @counts.get(thing) ? 0

  change: (thing, by_) -> @set thing, @of(thing) + by_

  set: (thing, count) -> if count > 0 then @counts.set thing, count else @counts.delete thing

class Suspects
  # `changes` emits 'change' whenever one has ended, or a pair is lost.
  constructor: (@queue, @changes) ->
    @unstarted = new Multiset # digests, as everywhere here
    @counted = new Multiset # and not ended
    @asked = new Map # the count before an INCR whose reply isn't read
    @running = new Map # the messages that run, and how often each was started

  # Adds an adopted message to the suspects.
  add: (message) -> @unstarted.change digestOf(message), 1

  # Which of the messages that a look has found, and that don't run, are suspects: `{message, isSuspect}`, in their order.
  # `isEach` says that all of them are that weren't counted yet.
  among: (messages, isEach) ->
    digests = messages.map digestOf
    here = new Multiset digests
    for digest from new Set [digests..., @unstarted.counts.keys()...]
      uncounted = if isEach then here.of(digest) - @counted.of digest else 0
      # others have taken away what isn't here
      @unstarted.set digest, Math.min here.of(digest), Math.max uncounted, @unstarted.of digest
    left = new Multiset
    left.set digest, count for [digest, count] from @unstarted.counts
    for message, i in messages
      isSuspect = left.of(digests[i]) > 0
      left.change digests[i], -1
      {message, isSuspect}

  # Resolves, when a suspect may run beside those that run, to how often it was counted before (server.attempts.alone).
  apart: (pair, message) ->
    before = try Number await pair.replies.redis.get attemptsKey @queue, digestOf message
    catch error
      throw error unless error instanceof ErrorReply
      0
    loop
      pair.check()
      return before if not @running.size or not before and [@running.values()...].every (starts) -> starts is 1
      await EventEmitter.once @changes, 'change'

  # Counts one start, and resolves to the count. Rejects where the reply is lost; `before` then tells whether Redis has counted.
  count: (pair, message, before) ->
    digest = digestOf message
    @asked.set digest, before unless @asked.has digest
    starts = before
    if before is @asked.get digest
      key = attemptsKey @queue, digest
      try [starts] = await pair.replies.redis.multi().incr(key).expire(key, COUNTED_S).exec()
      catch error
        throw error unless error instanceof ErrorReply
        starts = 1 # server.attempts.refused
    @asked.delete digest
    @unstarted.change digest, -1
    @counted.change digest, 1
    starts

  started: (message, starts) -> @running.set message, starts

  # Notes that it doesn't run any more. What has only lost its place stays counted, for its next start.
  ended: (message, isFinished) ->
    return unless @running.delete message
    @counted.change digestOf(message), -1 if isFinished

module.exports = {Suspects}
