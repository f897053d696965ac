# The server that the conformance kit starts: the library's own, with three handlers, configured by the environment.

{setTimeout: pause} = require 'node:timers/promises'
JobQueue = require 'jobqueue-coffee'

{env} = process

jobs = JobQueue.createServer
  url: env.REDIS_URL
  queue: env.JOBQUEUE_QUEUE
  processor: env.JOBQUEUE_PROCESSOR
  inProcess: env.JOBQUEUE_IN_PROCESS
  blockMs: Number env.JOBQUEUE_BLOCK_MS if env.JOBQUEUE_BLOCK_MS
  longestBlockMs: Number env.JOBQUEUE_BLOCK_MS if env.JOBQUEUE_BLOCK_MS # the kit's lists have known no other
  silenceMs: Number env.JOBQUEUE_SILENCE_MS if env.JOBQUEUE_SILENCE_MS
  concurrency: Number env.JOBQUEUE_CONCURRENCY if env.JOBQUEUE_CONCURRENCY
  keepMaxMs: Number env.JOBQUEUE_KEEP_MAX_MS if env.JOBQUEUE_KEEP_MAX_MS
  maxAttempts: Number env.JOBQUEUE_MAX_ATTEMPTS if env.JOBQUEUE_MAX_ATTEMPTS
  takeover: Boolean env.JOBQUEUE_LEASE_MS
  leaseMs: Number env.JOBQUEUE_LEASE_MS if env.JOBQUEUE_LEASE_MS
  graceMs: Number env.JOBQUEUE_GRACE_MS if env.JOBQUEUE_GRACE_MS
  prefixes: [env.JOBQUEUE_CHANNEL_PREFIX] if env.JOBQUEUE_CHANNEL_PREFIX

jobs.on 'echo', (parameters) -> parameters

jobs.on 'fail', (parameters) ->
  throw null if parameters?.abruptly # JavaScript can throw what is not an Error
  throw new Error if typeof parameters?.message is 'string' then parameters.message else 'it was asked to fail'

jobs.on 'wait', (parameters) ->
  await pause parameters.ms
  parameters

# A second signal ends the process at once.
process.on signal, (-> jobs.stop()) for signal in ['SIGTERM', 'SIGINT']

jobs.run() # server.stop.exit: nothing is left to do once it resolves, and where it rejects, Node.js exits with 1
