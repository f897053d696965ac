# The client that the conformance kit starts: runs each JSON line of its input as a job, and answers it by a JSON line.

JobQueue = require 'jobqueue-coffee'

# Node's readline also splits at U+2028, which may stand in a JSON string.
lines = (input) ->
  rest = ''
  input.setEncoding 'utf8'
  for await chunk from input
    [complete..., rest] = (rest + chunk).split '\n'
    yield line for line in complete
  yield rest if rest
  return

{env} = process

jobs = JobQueue.createClient
  url: env.REDIS_URL
  queue: env.JOBQUEUE_QUEUE
  silenceMs: Number env.JOBQUEUE_SILENCE_MS if env.JOBQUEUE_SILENCE_MS

answer = ({seq, method, parameters, timeout_ms, expires_in_ms}) ->
  try
    {seq, result: await jobs.run method, parameters, timeoutMs: timeout_ms, expiresInMs: expires_in_ms}
  catch error
    return {seq, timeout: yes} if error instanceof JobQueue.JobTimeout
    {code, message, data} = error
    {seq, error: {code, message, data}}

do ->
  running = for await line from lines process.stdin
    answer(JSON.parse line).then (answered) -> process.stdout.write "#{JSON.stringify answered}\n"
  await Promise.all running
  jobs.close()
