# The decisions of the feature `takeover`, without Redis: what replies mean, which lists are due, who is a suspect, and who is over.

assert = require 'node:assert/strict'
{spawn} = require 'node:child_process'
EventEmitter = require 'node:events'
fs = require 'node:fs'
{once} = EventEmitter
os = require 'node:os'
path = require 'node:path'
{test} = require 'node:test'
JobQueue = require '..'
{Life} = require '../dist/life'
{Suspects} = require '../dist/suspects'
{acquired, registrations, dueMs, leaseKey, codeOf, isForbidden} = require '../dist/takeover'

TIMES = leaseMs: 100, graceMs: 1000
NOW = 5000
ABSENT = -2 # what PTTL says of a key that isn't there

test 'a lease is the one who GET names, whatever SET has said', ->
  found = acquired ['OK', Buffer.from('own'), 100, 1]
  assert.deepEqual found, {isTaken: yes, holder: 'own', leftMs: 100, isRegistered: yes, isNew: yes, refusal: undefined}
  found = acquired [null, Buffer.from('other'), 70, 0]
  assert.deepEqual found, {isTaken: no, holder: 'other', leftMs: 70, isRegistered: yes, isNew: no, refusal: undefined}

test 'at the memory limit a lease can be held, and its list not be registered', ->
  refusal = new Error 'OOM command not allowed'
  found = acquired [refusal, Buffer.from('own'), 100, refusal]
  assert.deepEqual found, {isTaken: no, holder: 'own', leftMs: 100, isRegistered: no, isNew: no, refusal}

test 'a lease that nobody has is nobody\'s', ->
  {holder, leftMs} = acquired [null, null, ABSENT, 0]
  assert.deepEqual [holder, leftMs], [undefined, undefined]

test 'a lease that lasts is due when it ends, and one without an end never', ->
  assert.equal dueMs(0, 70, NOW, TIMES), 71
  assert.equal dueMs(NOW - 5000, 70, NOW, TIMES), 71
  assert.equal dueMs(0, -1, NOW, TIMES), undefined

test 'a list without a lease is marked at once, and emptied C after its mark', ->
  assert.equal dueMs(0, ABSENT, NOW, TIMES), 0
  assert.equal dueMs(NOW + 1, ABSENT, NOW, TIMES), 0 # a mark of the future is none
  assert.equal dueMs(NOW, ABSENT, NOW, TIMES), 100
  assert.equal dueMs(NOW - 99, ABSENT, NOW, TIMES), 1
  assert.equal dueMs(NOW - 100, ABSENT, NOW, TIMES), 0

test 'a list that was found empty is forgotten after G, and emptied again where it isn\'t any more', ->
  assert.equal dueMs(-NOW, 0, NOW, TIMES), 1000
  assert.equal dueMs(-(NOW - 999), 0, NOW, TIMES), 1
  assert.equal dueMs(-(NOW - 1000), 0, NOW, TIMES), 0
  assert.equal dueMs(-NOW, 1, NOW, TIMES), 0
  assert.equal dueMs(-(NOW + 1), 0, NOW, TIMES), 0

test 'a list is never due where Redis refuses to tell', ->
  assert.equal dueMs(v, new Error('WRONGTYPE'), NOW, TIMES), undefined for v in [0, -1, 1]

test 'registrations of the queue, the dead list, the own list and foreign keys are ignored', ->
  page = (Buffer.from each for each in [
    'q', '1', 'q:dead', '1', 'q:in-process:own', '1', 'qq:in-process:a', '1', ' q:in-process:a', '1', '', '1'
    'q:in-process:a', '-17'
  ])
  [theirs, rest...] = registrations page, 'q', 'q:in-process:own'
  assert.deepEqual [String(theirs.key), theirs.v, rest], ['q:in-process:a', -17, []]

test 'a value that is no number counts as 0', ->
  for value in ['nan', 'abc', '', '0x10', '1e3', '-0', ' 1', '1.5', '9'.repeat(40), '+1']
    [{v}] = registrations [Buffer.from('q:a'), Buffer.from value], 'q', 'q:own'
    assert.ok v is 0, "#{value} is #{v}" # -0 is 0, too

test 'a key is any bytes', ->
  key = Buffer.from [0x71, 0x3a, 0xff, 0x00]
  [theirs] = registrations [key, Buffer.from '0'], 'q', 'q:own'
  assert.deepEqual leaseKey('q', theirs.key), Buffer.concat [Buffer.from('q:lease:'), key]

test 'the code of an error is found in what a script makes of it', ->
  assert.equal codeOf(new Error 'OOM command not allowed'), 'OOM'
  assert.equal codeOf(new Error 'ERR Error running script (call to f_1): @user_script:1: -READONLY You can\'t write'), 'READONLY'
  assert.ok isForbidden new Error each for each in [
    'NOPERM no permissions', "ERR The user executing the script can't run this command", 'ERR ACL failure in script: x'
  ]
  assert.ok not isForbidden new Error 'OOM command not allowed'

[A, B] = [Buffer.from('a'), Buffer.from 'b']
PAIR = replies: redis: multi: -> {incr: -> {expire: -> {exec: -> Promise.resolve [1]}}}
suspectsAmong = (suspects, messages, isEach) -> (isSuspect for {isSuspect} in suspects.among messages, isEach)

test 'what the first look finds is a suspect once, and what a later one finds is not', ->
  suspects = new Suspects 'q', new EventEmitter
  assert.deepEqual suspectsAmong(suspects, [A, A], yes), [yes, yes]
  await suspects.count PAIR, A, 0
  assert.deepEqual suspectsAmong(suspects, [A, A, B], no), [yes, no, no]

test 'what was counted and then lost its place is not counted again', ->
  suspects = new Suspects 'q', new EventEmitter
  suspects.started A, await suspects.count PAIR, A, 0
  suspects.ended A, no
  assert.deepEqual suspectsAmong(suspects, [A, B], yes), [no, yes]

test 'an adopted message is a suspect until it is counted, as long as it is on the list', ->
  suspects = new Suspects 'q', new EventEmitter
  suspects.add A
  assert.deepEqual suspectsAmong(suspects, [B, A], no), [no, yes]
  assert.deepEqual suspectsAmong(suspects, [B], no), [no]
  assert.deepEqual suspectsAmong(suspects, [B, A], no), [no, no]

test 'a count whose reply is lost is not made twice', ->
  suspects = new Suspects 'q', new EventEmitter
  lost = replies: redis: multi: -> {incr: -> {expire: -> {exec: -> Promise.reject new Error 'the socket closed'}}}
  await assert.rejects suspects.count(lost, A, 0), /socket/
  assert.equal await suspects.count(lost, A, 1), 1

test 'a life is over once its process has ended, and not before', ->
  folder = fs.mkdtempSync path.join os.tmpdir(), 'lives-'
  process.env.XDG_RUNTIME_DIR = folder
  script = "const {Life} = require('./dist/life'); const life = new Life(); life.begin().then(() => console.log(life.token)); setInterval(() => {}, 1000)"
  other = spawn process.execPath, ['-e', script], {cwd: path.join(__dirname, '..'), stdio: ['ignore', 'pipe', 'inherit']}
  [token] = await once other.stdout, 'data'
  token = String(token).trim()
  life = new Life
  await life.begin()
  try
    assert.equal await life.isOver(token), no
    assert.equal await life.isOver('of another host'), no
    other.kill 'SIGKILL'
    await once other, 'exit'
    assert.equal await life.isOver(token), process.platform is 'linux'
    assert.equal await life.isOver(life.token), no
  finally
    life.end()
    fs.rmSync folder, recursive: yes

test 'a folder that others can write to proves nothing', ->
  folder = fs.mkdtempSync path.join os.tmpdir(), 'lives-'
  process.env.XDG_RUNTIME_DIR = folder
  fs.mkdirSync path.join(folder, 'jobqueue-lives')
  fs.chmodSync path.join(folder, 'jobqueue-lives'), 0o777
  life = new Life
  await life.begin()
  assert.deepEqual [life.listener, await life.isOver 'any'], [undefined, no]
  fs.rmSync folder, recursive: yes

test 'a server refuses a lease that is too short, and a list that nobody would adopt from', ->
  assert.throws (-> JobQueue.createServer blockMs: 1000, leaseMs: 2999), /three times/
  assert.throws (-> JobQueue.createServer queue: 'q', inProcess: 'other:list'), /begin with/
  JobQueue.createServer queue: 'q', inProcess: 'other:list', takeover: no
