# What servers have left behind: when the registry is read, which lists are due, and what is adopted from them. A list is due
# when its lease is gone: to be marked as lapsed, C later to be emptied, and G after that to be forgotten. Each step is one script
# that looks at all of this again, so what is known here may be out of date.

{ADOPT, evalOf, processorsKey, scannedKey, leaseKey, registrations, dueMs, codeOf} = require './takeover'
{checkPermission} = require './lease'

PAGE = '500' # registrations that are read at once
SCANNING_MS = 1000 # how long other servers leave a page to this one
LEFT_MS = 500 # when others may scan, although this server has found something to do
JITTER_MS = 250 # so that many servers don't ask together

class Scan
  constructor: ({@queue, @lease, @graceMs, @log}) ->
    @due = [] # keys of lists
    @nextAt = -Infinity
    @hasScanned = no
    @refused = new Set # keys of lists that Redis doesn't let it adopt from
    @adopted = 0

  # Whether there is something to do before the next claim.
  isDue: -> @due.length > 0 or performance.now() >= @nextAt

  # How long a claim may block.
  waitMs: -> @nextAt - performance.now()

  # Reads the registry if that is due.
  update: (pair) ->
    return unless performance.now() >= @nextAt
    try
      await @read pair
    catch error
      checkPermission error unless @hasScanned
      throw error

  # server.takeover.scans: one of many servers reads the registry for all; the first time in its life each one does.
  read: (pair) ->
    now = performance.now()
    {leaseMs} = @lease
    jitterMs = Math.random() * Math.min JITTER_MS, leaseMs / 32
    leftMs = await @turn pair
    if leftMs?
      @nextAt = now + leftMs + jitterMs
      return
    found = await @pages pair
    @due = (key for {key, ms} in found when ms < 1 and not @refused.has key.toString 'latin1') # server.takeover.first
    nextMs = Math.min leaseMs, (ms for {ms} in found when ms >= 1)...
    othersMs = if @due.length then Math.min LEFT_MS, nextMs else nextMs
    await pair.replies.all [['PEXPIRE', scannedKey(@queue), String Math.max 1, Math.floor othersMs]]
    @hasScanned = yes
    @nextAt = now + nextMs + jitterMs

  # Resolves to nothing where this server is to scan now, and else to the milliseconds until somebody is to.
  turn: (pair) ->
    condition = if @hasScanned then ['NX'] else []
    [turn, leftMs] = await pair.replies.all [
      ['SET', scannedKey(@queue), @lease.life.token, condition..., 'PX', String SCANNING_MS]
      ['PTTL', scannedKey(@queue)]
    ]
    if turn instanceof Error
      return @lease.leaseMs / 4 if codeOf(turn) is 'OOM' # adopting waits
      throw turn
    leftMs if turn is null and 0 <= leftMs <= @lease.leaseMs # a key that lasts longer isn't of a server

  # Resolves to each list that will be due, `{key, ms}`.
  pages: (pair) ->
    found = new Map # HSCAN can return a field twice
    cursor = '0'
    loop
      [page, time] = await pair.replies.all [['HSCAN', processorsKey(@queue), cursor, 'COUNT', PAGE], ['TIME']]
      throw refusal for refusal in [page, time] when refusal instanceof Error
      nowMs = 1000 * Number(time[0]) + Math.floor Number(time[1]) / 1000
      lists = registrations page[1], @queue, @lease.list
      replies = await pair.replies.all [
        ((if v < 0 then ['LLEN', key] else ['PTTL', leaseKey @queue, key]) for {key, v} in lists)...
        ['PEXPIRE', scannedKey(@queue), String SCANNING_MS]
      ]
      for {key, v}, i in lists
        ms = dueMs v, replies[i], nowMs, {leaseMs: @lease.leaseMs, @graceMs}
        found.set key.toString('latin1'), {key, ms} if ms?
      cursor = String page[0]
      return [found.values()...] if cursor is '0'

  # Does what is due on the next list. Resolves to the message that it has moved to the own list, if there is one.
  adopt: (pair) ->
    [key] = @due
    keys = [processorsKey(@queue), @lease.key, leaseKey(@queue, key), @lease.list, key]
    [message] = await pair.replies.all [evalOf ADOPT, keys, @lease.life.token, String(@lease.leaseMs), String @graceMs]
    unless message instanceof Error
      unless message
        @due.shift()
        return
      @adopted += 1
      @log "jobqueue: adopted a job from #{key} (#{@adopted} in this life)"
      return message
    throw message if codeOf(message) in ['READONLY', 'MASTERDOWN', 'LOADING']
    if codeOf(message) is 'OOM'
      @due = [] # at its memory limit adopting waits
      return
    @due.shift() # server.takeover.ignores
    @refused.add key.toString 'latin1'
    @log "jobqueue: can't adopt from #{key}: #{message.message}"
    return

module.exports = {Scan}
