# What a client does about errors of Redis, without Redis: which questions it repeats.

assert = require 'node:assert/strict'
{test} = require 'node:test'
{ErrorReply} = require 'redis'
{Client} = require '../dist/client'

BUSY = new ErrorReply 'BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.'
FORBIDDEN = new ErrorReply "NOPERM User default has no permissions to run the 'get' command"
RESULT = Buffer.from '{"id":"1","result":"kept"}'

# Gives a client one connection, whose Redis answers each question by the next of these; resolves to how often it was asked,
# and to how the job was settled, if it was.
asked = (answers, ask) ->
  client = new Client url: 'redis://127.0.0.1:1' # nobody listens there
  settled = undefined
  settle = (outcome) -> settled = outcome
  entry = {name: 'job', id: '1', channel: 'own', key: 'result', mayRun: yes, resolve: settle, reject: settle}
  client.add entry
  count = 0
  answer = ->
    reply = answers[count]
    count += 1
    throw reply if reply instanceof Error
    reply
  try await ask client, {redis: {get: answer, subscribe: answer, unsubscribe: -> }}, entry
  finally client.pending.clear()
  {count, settled}

look = (client, connection, entry) -> client.look connection, [entry]
hear = (client, connection, entry) -> client.hear connection, entry

test 'a busy Redis is asked again for a kept result', ->
  assert.deepEqual await asked([BUSY, BUSY, RESULT], look), {count: 3, settled: 'kept'}

test 'what Redis refuses for good is asked once, and may be published yet', ->
  assert.deepEqual await asked([FORBIDDEN], look), {count: 1, settled: undefined}

test 'a lost connection ends the look, which the next connection repeats', ->
  assert.deepEqual await asked([new Error 'Socket closed unexpectedly'], look), {count: 1, settled: undefined}

test 'a busy Redis that refuses a channel is asked again by whoever connects, and settles nothing', ->
  await assert.rejects asked([BUSY], hear), BUSY
  {settled} = await asked [FORBIDDEN], hear
  assert.equal settled.code, 'connection-lost'
