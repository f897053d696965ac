# One connection to Redis, which lives once. Left to itself, node-redis would connect again and send again what it still had
# to send, and a push or a claim could happen twice; so that is switched off, and the owner of a Connection opens another one
# after it has decided what the loss means. Bulk replies are Buffers.

{createClient, ErrorReply, RESP_TYPES} = require 'redis'

SILENCE_MS = 15000 # how long a Redis that doesn't answer is taken for alive
CLOCK_MS = 60000 # how long a reply to TIME is good for

class Connection
  # Resolves to a Connection, or rejects by what went wrong.
  @open: (url, silenceMs) ->
    connection = new Connection url, silenceMs
    await connection.redis.connect()
    connection

  constructor: (url, silenceMs = SILENCE_MS) ->
    @redis = createClient
      url: url
      RESP: 3 # subscriptions and commands share a connection
      disableOfflineQueue: yes
      disableClientInfo: yes
      maintNotifications: 'disabled'
      # client.connection.silent, server.connection.silent: an idle connection hears the replies to its pings
      pingInterval: silenceMs / 3
      socket: {reconnectStrategy: no, connectTimeout: silenceMs, socketTimeout: silenceMs}
      commandOptions: {typeMapping: {[RESP_TYPES.BLOB_STRING]: Buffer}}
    # Resolves to the error by which the connection was lost; never rejects, and stays open where close() came first.
    @lost = new Promise (resolve) => @redis.on 'error', resolve
    @lost.then => @close()

  # Resolves to the replies to several commands that are sent together; an error of Redis is one of them.
  all: (commands) ->
    Promise.all commands.map (command) =>
      try await @redis.sendCommand command
      catch error
        throw error unless error instanceof ErrorReply
        error

  # Resolves to what Redis's clock says, in milliseconds.
  time: ->
    [seconds, microseconds] = await @redis.sendCommand ['TIME']
    1000 * Number(seconds) + Number(microseconds) / 1000

  # Resolves to what it says at a moment of `performance.now()`, by a TIME of the last minute (client.expiry.clock).
  timeAt: (moment) ->
    unless performance.now() - @clock?.asked <= CLOCK_MS
      asked = performance.now()
      @clock = {asked, time: await @time()}
    Math.round @clock.time + moment - @clock.asked

  # Rejects whatever still waits for a reply.
  close: ->
    @redis.destroy() if @redis.isOpen
    return

# Throws where the URL can't be one of a Redis, without naming the password (server.security.password,
# client.security.password).
checkUrl = (url) ->
  protocol = try new URL(url).protocol
  throw new TypeError 'not a valid Redis URL: it must begin with redis:// or rediss://' unless protocol in ['redis:', 'rediss:']
  url

# Milliseconds to wait before the next attempt: twice as long each time, at most a second, and never quite the same
# (server.connection.back-off).
backOffMs = (attempt) -> Math.min(1000, 25 * 2 ** attempt) * (0.5 + Math.random() / 2)

# Whether this error of Redis may be gone in a while: a script runs for long, the file is read, or a part of a cluster moves.
isBusy = ({message}) -> /^(BUSY|LOADING|MASTERDOWN|CLUSTERDOWN|TRYAGAIN|ASK) /.test message

# What went wrong, in words; Node.js gives a refused connection to a name with two addresses only a code.
reason = (error) -> error.message or error.code

module.exports = {Connection, checkUrl, backOffMs, isBusy, reason}
