// Runs a queue of Node.js in one role: `node contender.js NAME ROLE OPTIONS`, with the roles, the options and the
// answers of ../__main__.py. The tally is the same mapped form, written after each job that is counted.
import { openSync, writeSync } from 'node:fs'
import { createRequire } from 'node:module'
import { parseArgs } from 'node:util'
import BeeQueue from 'bee-queue'
import * as bullmq from 'bullmq'

const require = createRequire(import.meta.url)
const { values: options, positionals: [name, role] } = parseArgs({
  allowPositionals: true,
  options: {
    url: { type: 'string', default: 'redis://127.0.0.1:6379/0' },
    tally: { type: 'string' },
    count: { type: 'string', default: '1000' },
    seconds: { type: 'string', default: '60' },
    'payload-bytes': { type: 'string', default: '10' },
    'in-flight': { type: 'string', default: '1' },
    concurrency: { type: 'string', default: '1' },
    prefetch: { type: 'string' },
    processor: { type: 'string' },
    servers: { type: 'string' },
    'no-results': { type: 'boolean' }
  }
})
const { hostname: host, port } = new URL(options.url)
const redis = { host, port: Number(port) }
const count = Number(options.count)
const BATCH = 1_000
const payload = 'x'.repeat(Number(options['payload-bytes']))
const now = () => Number(process.hrtime.bigint()) / 1e9

// The monotonic clock of process.hrtime is the one that Python's time.monotonic reads.
function tally () {
  const file = openSync(`${options.tally}.${process.pid}`, 'w')
  const form = Buffer.alloc(32)
  let jobs = 0
  return () => {
    const time = now()
    if (jobs === 0) {
      form.writeBigInt64LE(BigInt(process.pid), 8)
      form.writeDoubleLE(time, 16)
    }
    form.writeBigInt64LE(BigInt(++jobs), 0)
    form.writeDoubleLE(time, 24)
    writeSync(file, form, 0, 32, 0)
  }
}

const contenders = {
  bee_queue: {
    version: () => require('bee-queue/package.json').version,
    serve (hit) {
      const queue = new BeeQueue('bench', { redis, removeOnSuccess: true, sendEvents: !options['no-results'] })
      queue.process(Number(options.concurrency), async (job) => { hit(); return job.data })
      process.on('SIGTERM', () => queue.close().then(() => process.exit(0)))
    },
    async push () {
      const queue = new BeeQueue('bench', { redis, isWorker: false, getEvents: false, storeJobs: false })
      await queue.ready()
      const started = now()
      for (let number = 0; number < count; number++) await queue.createJob({ payload }).save()
      return now() - started
    },
    async push_many () {
      const queue = new BeeQueue('bench', { redis, isWorker: false, getEvents: false, storeJobs: false })
      await queue.ready()
      const started = now()
      for (let begin = 0; begin < count; begin += BATCH) {
        await queue.saveAll(Array.from({ length: Math.min(BATCH, count - begin) }, () => queue.createJob({ payload })))
      }
      return now() - started
    },
    async call () {
      const queue = new BeeQueue('bench', { redis, isWorker: false, removeOnSuccess: true })
      await queue.ready()
      return (parameters) => new Promise((resolve, reject) => {
        const job = queue.createJob(parameters)
        job.on('succeeded', resolve).on('failed', reject)
        job.save().catch(reject)
      })
    }
  },
  bullmq_node: {
    version: () => require('bullmq/package.json').version,
    serve (hit) {
      const worker = new bullmq.Worker('bench', async (job) => { hit(); return job.data }, {
        connection: redis, concurrency: Number(options.concurrency)
      })
      process.on('SIGTERM', () => worker.close().then(() => process.exit(0)))
    },
    async push () {
      const queue = new bullmq.Queue('bench', { connection: redis })
      await queue.waitUntilReady()
      const started = now()
      for (let number = 0; number < count; number++) await queue.add('echo', { payload }, { removeOnComplete: true })
      return now() - started
    },
    async push_many () {
      const queue = new bullmq.Queue('bench', { connection: redis })
      await queue.waitUntilReady()
      const started = now()
      for (let begin = 0; begin < count; begin += BATCH) {
        const batch = Array.from({ length: Math.min(BATCH, count - begin) },
          () => ({ name: 'echo', data: { payload }, opts: { removeOnComplete: true } }))
        await queue.addBulk(batch)
      }
      return now() - started
    },
    async call () {
      const queue = new bullmq.Queue('bench', { connection: redis })
      const events = new bullmq.QueueEvents('bench', { connection: redis })
      queue.setMaxListeners(0) // it listens once for each call in flight
      events.setMaxListeners(0)
      await Promise.all([queue.waitUntilReady(), events.waitUntilReady()])
      return async (parameters) => {
        // A job that is removed at once can't be asked for its result.
        const job = await queue.add('echo', parameters, { removeOnComplete: { count: 10_000 } })
        return job.waitUntilFinished(events, 10_000)
      }
    }
  }
}

// As ../calls.py: so many at once, the first tenth unmeasured, a result that doesn't come in ten seconds is lost.
async function timedCalls (run) {
  const inFlight = Number(options['in-flight'])
  let answer
  for (const calls of [Math.max(Math.floor(count / 10), inFlight), count]) {
    let [number, lost, because, latencies] = [0, 0, '', []]
    const began = now()
    const deadline = began + Number(options.seconds)
    const oneAfterAnother = async () => {
      while (number < calls && now() < deadline) {
        const parameters = [number++, payload]
        const started = now()
        let timer
        const late = new Promise((resolve) => { timer = setTimeout(resolve, 10_000) })
        const result = await Promise.race([run(parameters), late]).catch((error) => error)
        clearTimeout(timer)
        if (JSON.stringify(result) === JSON.stringify(parameters)) latencies.push(now() - started)
        else [lost, because] = [lost + 1, String(result)]
      }
    }
    await Promise.all(Array.from({ length: inFlight }, oneAfterAnother))
    answer = { latencies, seconds: now() - began, lost, because }
  }
  return answer
}

const contender = contenders[name]
if (!contender?.[role]) {
  console.error(`${name} has no role '${role}'`)
  process.exit(1)
}
const answers = {
  version: () => ({ version: contender.version() }),
  push: async () => ({ seconds: await contender.push() }),
  push_many: async () => ({ seconds: await contender.push_many() }),
  call: async () => timedCalls(await contender.call())
}
if (role === 'serve') contender.serve(tally())
else {
  // An exit would cut off what a pipe hasn't taken yet.
  process.stdout.write(`${JSON.stringify(await answers[role]())}\n`, () => process.exit(0))
}
