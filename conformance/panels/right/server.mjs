// A server on Node.js without a library: one socket for claims, one for answers, and a small parser of RESP2.
// Publishes and removes in one MULTI, or one after the other where Redis forbids that; several jobs run at once in one event loop.

import net from 'node:net'

const env = process.env
const url = new URL(env.REDIS_URL)
const queue = env.JOBQUEUE_QUEUE
const list = env.JOBQUEUE_IN_PROCESS || `${queue}:in-process:${env.JOBQUEUE_PROCESSOR}`
const prefix = env.JOBQUEUE_CHANNEL_PREFIX ?? ''
const limit = Number(env.JOBQUEUE_CONCURRENCY ?? 1)
const blockMs = Math.min(Number(env.JOBQUEUE_BLOCK_MS ?? 1000), 5000)
const silenceMs = blockMs + 8000 // no reply to any command takes longer
const lookMs = 5000
const patienceMs = 5000 // for which a server that is to stop tries to reach Redis
const later = ms => new Promise(resolve => setTimeout(resolve, ms))

class Refusal extends Error {}

// Returns [reply, the offset behind it], or undefined while bytes are missing.
function parse(bytes, at) {
  const end = bytes.indexOf('\r\n', at)
  if (end < 0) return undefined
  const text = bytes.toString('utf8', at + 1, end)
  let next = end + 2
  switch (bytes[at]) {
    case 0x2b: return [text, next]
    case 0x2d: return [new Refusal(text), next]
    case 0x3a: return [Number(text), next]
    case 0x24: {
      const length = Number(text)
      if (length < 0) return [null, next]
      if (bytes.length < next + length + 2) return undefined
      return [bytes.subarray(next, next + length), next + length + 2]
    }
    default: {
      if (Number(text) < 0) return [null, next]
      const values = []
      for (let i = 0; i < Number(text); i++) {
        const one = parse(bytes, next)
        if (one === undefined) return undefined
        values.push(one[0])
        next = one[1]
      }
      return [values, next]
    }
  }
}

class Redis {
  static async connect() {
    const redis = new Redis()
    await new Promise((resolve, reject) => {
      redis.socket = net.connect({ host: url.hostname, port: Number(url.port || 6379), noDelay: true })
      redis.socket.once('connect', resolve).on('error', error => { redis.end(error); reject(error) })
    })
    redis.socket.on('data', data => redis.read(data)).on('close', () => redis.end(new Error('the connection is lost')))
    const user = url.username ? [decodeURIComponent(url.username)] : []
    if (url.password) await redis.do('AUTH', ...user, decodeURIComponent(url.password))
    await redis.do('SELECT', url.pathname.slice(1) || '0')
    return redis
  }

  waiting = []
  silence = null
  unread = Buffer.alloc(0)
  lost = null

  do(...command) {
    if (this.lost) return Promise.reject(this.lost)
    const parts = [Buffer.from(`*${command.length}\r\n`)]
    for (const argument of command) {
      const bytes = Buffer.isBuffer(argument) ? argument : Buffer.from(String(argument))
      parts.push(Buffer.from(`$${bytes.length}\r\n`), bytes, Buffer.from('\r\n'))
    }
    this.socket.write(Buffer.concat(parts))
    this.silence ??= this.watch()
    return new Promise((resolve, reject) => this.waiting.push({ resolve, reject }))
  }

  // While replies are missing, something has to come.
  watch() {
    return setTimeout(() => this.end(new Error('Redis is silent')), silenceMs)
  }

  read(data) {
    clearTimeout(this.silence)
    this.unread = Buffer.concat([this.unread, data])
    for (let found; (found = parse(this.unread, 0)) !== undefined;) {
      this.unread = this.unread.subarray(found[1])
      const { resolve, reject } = this.waiting.shift()
      if (found[0] instanceof Refusal) reject(found[0])
      else resolve(found[0])
    }
    this.silence = this.waiting.length ? this.watch() : null
  }

  end(error) {
    this.lost ??= error
    clearTimeout(this.silence)
    this.socket.destroy()
    for (const { reject } of this.waiting.splice(0)) reject(error)
  }
}

const handlers = new Map([
  ['echo', async parameters => parameters],
  ['wait', async parameters => { await later(parameters.ms); return parameters }],
  ['fail', async parameters => { throw new Error(parameters.message) }]
])

const failure = (code, message) => ({ error: { code, message } })

async function outcome(job) {
  if (typeof job.method !== 'string' || job.method === '') return failure('invalid-job', 'the job names no method')
  const handler = handlers.get(job.method)
  if (!handler) return failure('method-not-found', `nothing handles ${job.method}`)
  try {
    return { result: await handler(job.parameters ?? null) }
  } catch (error) {
    return failure('handler-error', String(error.message))
  }
}

const isName = value => typeof value === 'string' && value !== '' && value.isWellFormed()
String.prototype.isWellFormed ??= function () { return !/\p{Surrogate}/u.test(this) }

async function answer(raw) {
  let job
  try {
    job = JSON.parse(new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(raw))
  } catch {
    return null
  }
  if (typeof job !== 'object' || job === null || Array.isArray(job)) return null
  if (!isName(job.channel) || !isName(job.id) || !job.channel.startsWith(prefix)) return null
  try {
    return { channel: job.channel, result: JSON.stringify({ id: job.id, ...await outcome(job) }) }
  } catch {
    return null // nested too deep to be written
  }
}

const running = [] // the entries that this process answers for, as Buffers
let opening = null // a promise of the connection for answers, which those that run share
let stopping = false
let connections = 0
let failingSince = null
let lookAt = 0
let secondLookAt = 0
let looks = 0
let wake = () => {}

function lookSoon() {
  lookAt = Date.now()
  secondLookAt = lookAt + blockMs + 1
  looks = 0
}

function fail(error) {
  console.error(error.message)
  failingSince ??= Date.now()
  if (stopping && Date.now() - failingSince > patienceMs) process.exit(1)
}

const isForbidden = error => error.message.startsWith('NOPERM')
const forbidsChannel = error => isForbidden(error) && error.message.includes('channel')

// The connection for answers, which knows whether Redis lets it use MULTI: the commands behind one that was refused would be
// executed each by itself.
async function connectToAnswer() {
  const redis = await Redis.connect()
  const replies = await Promise.allSettled([redis.do('MULTI'), redis.do('DISCARD')])
  redis.transacts = !replies.some(({ reason }) => reason && isForbidden(reason))
  return redis
}

async function finish(raw, reply) {
  opening ??= connectToAnswer()
  const answers = await opening
  const remove = ['LREM', list, '-1', raw]
  const bury = ['LPUSH', `${queue}:dead`, raw]
  const first = reply ? ['PUBLISH', reply.channel, reply.result] : bury
  try {
    if (answers.transacts) {
      await allOf([['MULTI'], first, remove, ['EXEC']].map(c => answers.do(...c)))
    } else {
      await answers.do(...first)
      await answers.do(...remove)
    }
  } catch (refusal) {
    if (!reply || !forbidsChannel(refusal)) throw refusal
    await finish(raw, null)
  }
}

// Waits for all of them, and throws the first of their refusals.
async function allOf(promises) {
  const refused = (await Promise.allSettled(promises)).find(({ status }) => status === 'rejected')
  if (refused) throw refused.reason
}

async function run(raw) {
  running.push(raw)
  const reply = await answer(raw)
  for (;;) {
    try {
      await finish(raw, reply)
      break
    } catch (error) {
      fail(error)
      opening?.then(answers => answers.end(error), () => {})
      opening = null
      connections += 1
      lookSoon()
      await later(50)
    }
  }
  running.splice(running.indexOf(raw), 1)
  wake()
}

const slot = () => new Promise(resolve => {
  wake = () => { if (running.length < limit) resolve() }
  wake()
})

async function look(claims) {
  const known = [...running]
  const entries = await claims.do('LRANGE', list, '0', '-1')
  failingSince = null
  for (const raw of entries.reverse()) {
    const at = known.findIndex(other => other.equals(raw))
    if (at >= 0) {
      known.splice(at, 1)
    } else {
      await slot()
      run(raw)
    }
  }
}

async function serve(claims) {
  for (;;) {
    if (lookAt <= Date.now()) {
      looks += 1
      lookAt = looks === 1 ? secondLookAt : Date.now() + lookMs
      await look(claims)
    } else if (!stopping) {
      await slot()
      if (stopping) continue
      const raw = await claims.do('BLMOVE', queue, list, 'RIGHT', 'LEFT', blockMs / 1000)
      if (raw) run(raw)
    } else if (running.length || (looks < 2 && connections > 1)) {
      await later(5)
    } else {
      return
    }
  }
}

process.on('SIGTERM', () => { stopping = true; wake() })

while (!(stopping && connections === 0)) {
  let claims
  try {
    claims = await Redis.connect()
    connections += 1
    lookSoon()
    await serve(claims)
    break
  } catch (error) {
    fail(error)
    claims?.end(error)
    await later(50)
  }
}
process.exit(0)
