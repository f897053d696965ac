# The two connections of a server, which live and die together: one waits in claims, the other looks, publishes and removes.
# Neither is closed while a claim waits, for Redis may be moving a job to it.

{Connection} = require './connection'

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

module.exports = {Pair}
