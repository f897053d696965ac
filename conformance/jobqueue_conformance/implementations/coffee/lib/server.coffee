# Claims jobs, runs their handlers, publishes what they return, and only then removes them. What it has claimed it holds
# until Redis has confirmed the removal: across lost connections, and until the last answer when it is told to stop. What
# lies on its in-process list although it doesn't hold it, it recovers.
#
# Two connections live and die together: one blocks in claims, the other publishes, removes and looks. Any refusal counts as
# a lost connection, except that of a channel. A connection is never closed while a claim blocks on it, for Redis may be
# moving a job to it.

EventEmitter = require 'node:events'
{hostname} = require 'node:os'
{setTimeout: pause} = require 'node:timers/promises'
{Connection, checkUrl, backOffMs} = require './connection'
{decide, encodeValue, encodeError, unheld} = require './protocol'

MAX_BLOCK_MS = 5000 # server.recovery.block

class Pair
  @open: (url, onLost) ->
    claims = await Connection.open url
    try
      replies = await Connection.open url
    catch error
      claims.close()
      throw error
    new Pair claims, replies, onLost

  constructor: (@claims, @replies, @onLost) ->
    connection.lost.then ((error) => @lose error) for connection in [@claims, @replies]

  lose: (error) ->
    @error ?= error
    @onLost()

  check: -> throw @error if @error

  close: -> connection.close() for connection in [@claims, @replies]

class Server
  constructor: (options = {}) ->
    {url = 'redis://localhost:6379', @queue = 'job-queue', processor = hostname()} = options
    {inProcess = "#{@queue}:in-process:#{processor}", @concurrency = 1, blockMs = 2000} = options # server.list.name
    {@prefixes, @log = console.error} = options
    @url = checkUrl url
    @inProcess = inProcess
    @blockMs = Math.max 1, Math.min blockMs, MAX_BLOCK_MS
    @handlers = new Map
    @held = new Set # of messages, each a Buffer of its own even where bytes are equal
    @changes = new EventEmitter # 'change': a message is no longer held, or a pair was opened or lost

  # Registers the handler of a method; it takes the parameters and returns a value or a promise, or throws.
  on: (method, handler) ->
    @handlers.set method, handler
    this

  # Serves until stop(). The promise resolves when all that was claimed is answered.
  run: -> @running ?= @serve()

  # Claims nothing more; resolves as run() does.
  stop: ->
    @stopping = yes
    @running

  serve: ->
    attempt = 0
    until @stopping and not @held.size and not @unsure
      try
        pair = await Pair.open @url, => @changes.emit 'change'
        ...
