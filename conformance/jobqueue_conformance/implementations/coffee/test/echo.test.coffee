# The examples as their reader runs them: a web server, a job server and Redis, each a process, and real HTTP requests.
# Redis is the one at REDIS_URL, whose queue `job-queue` is used, or else a redis-server that lives as long as the tests.

assert = require 'node:assert/strict'
{spawn} = require 'node:child_process'
{once} = require 'node:events'
net = require 'node:net'
path = require 'node:path'
{after, before, test} = require 'node:test'
{createClient} = require 'redis'
JobQueue = require '..'

url = origin = jobServer = null
started = []

start = (env, command, args...) ->
  child = spawn command, args, {env: {process.env..., env...}, stdio: ['ignore', 'pipe', 'inherit']}
  started.push child
  child

coffee = (env, file) -> start env, path.join(__dirname, '../node_modules/.bin/coffee'), path.join(__dirname, file)

# Resolves to the match of what a program writes; rejects when it ends without having written it.
written = (pattern, child) ->
  found = new Promise (resolve) ->
    output = ''
    child.stdout.setEncoding('utf8').on 'data', (text) ->
      output += text
      resolve match if match = pattern.exec output
  ended = once(child, 'exit').then -> throw new Error "#{child.spawnfile} ended before it wrote #{pattern}"
  Promise.race [found, ended]

startRedis = ->
  listener = net.createServer().listen 0, '127.0.0.1'
  await once listener, 'listening'
  {port} = listener.address()
  listener.close()
  redis = start {}, 'redis-server', '--port', port, '--bind', '127.0.0.1', '--save', ''
  await written /Ready to accept connections/, redis
  "redis://127.0.0.1:#{port}"

before ->
  url = process.env.REDIS_URL or await startRedis()
  jobServer = coffee {REDIS_URL: url}, '../examples/jobs.coffee'
  [, port] = await written /port (\d+)/, coffee {REDIS_URL: url, PORT: '0'}, '../examples/web.coffee'
  origin = "http://127.0.0.1:#{port}"

after -> child.kill() for child in started

echo = (text) ->
  response = await fetch "#{origin}/echo?q=#{encodeURIComponent text}", signal: AbortSignal.timeout 10000
  assert.equal response.status, 200
  response.text()

test 'an endpoint answers with the result of a job', ->
  assert.equal await echo('hello, wörld & <all>'), 'hello, wörld & <all>'

test 'each of many requests at once gets the result of its own job', ->
  texts = ("request #{i}" for i in [1..50])
  assert.deepEqual await Promise.all(texts.map echo), texts

test 'a job settles by what its handler returns, promises or throws', ->
  queue = 'job-queue-test'
  jobs = JobQueue.createServer {url, queue}
  jobs.on 'returns', (parameters) -> [parameters]
  jobs.on 'promises', (parameters) -> Promise.resolve [parameters]
  jobs.on 'throws', -> throw new JobQueue.JobError 'billing.card-declined', 'no funds', {cents: 5}
  jobs.run()
  client = JobQueue.createClient {url, queue}
  try
    assert.deepEqual await client.run('returns', 0, timeoutMs: 10000), [0]
    assert.deepEqual await client.run('promises', null, timeoutMs: 10000), [null]
    declined = {code: 'billing.card-declined', message: 'no funds', data: {cents: 5}}
    await assert.rejects client.run('throws', null, timeoutMs: 10000), declined
  finally
    await client.close()
    await jobs.stop()

test 'a server without takeover refuses a list from which others would adopt', ->
  names = {url, queue: 'job-queue-registered', processor: 'one'}
  registers = JobQueue.createServer names
  registers.on 'echo', (parameters) -> parameters
  registers.run()
  client = JobQueue.createClient {url, queue: names.queue}
  try
    await client.run 'echo', 0, timeoutMs: 10000 # so it is registered
    await assert.rejects JobQueue.createServer({names..., takeover: no}).run(), /would adopt from/
  finally
    await client.close()
    await registers.stop()
  without = JobQueue.createServer {names..., takeover: no} # a clean stop has removed the registration
  without.run()
  await without.stop()

test 'a server that lacks a permission of takeover ends, and says so', ->
  redis = await createClient({url}).connect()
  try
    rights = ['+@all', '-hset']
    await redis.sendCommand ['ACL', 'SETUSER', 'limited', 'on', '>secret', '~*', '&*', rights...]
    limited = new URL url
    [limited.username, limited.password] = ['limited', 'secret']
    await assert.rejects JobQueue.createServer(url: limited.href).run(), /takeover needs more permissions .*hset/i
  finally
    await redis.sendCommand ['ACL', 'DELUSER', 'limited']
    redis.destroy()

test 'a job server that is asked to stop ends with the status 0', ->
  jobServer.kill()
  assert.deepEqual await once(jobServer, 'exit'), [0, null]
