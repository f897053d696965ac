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

write = (line) -> process.stdout.write "#{JSON.stringify line}\n"

start = ({seq, method, parameters, timeout_ms, expires_in_ms, keep_ms, detached, collect}) ->
  return jobs.collect collect, timeoutMs: timeout_ms if collect?
  job = jobs.run method, parameters, {timeoutMs: timeout_ms, expiresInMs: expires_in_ms, keepMs: keep_ms, detached}
  job.handle?.then ((handle) -> write {seq, handle} if handle), -> # the job itself says why there is none
  job

answer = (request) ->
  {seq} = request
  try
    {seq, result: await start request}
  catch error
    return {seq, timeout: yes} if error instanceof JobQueue.JobTimeout
    {code, message, data} = error
    {seq, error: {code, message, data}}

do ->
  running = for await line from lines process.stdin
    answer(JSON.parse line).then write
  await Promise.all running
  jobs.close()
