# One life of a server, by its token, and the proof that another life of this host is over.
#
# A life listens on a Unix socket whose name is made of its token, before Redis hears of that. The kernel ends that however the
# process ends, so where the socket's file is there and nobody listens, the life is over. The name is made of the kernel's boot
# id, too: a folder that several hosts share proves nothing. Where there is no such id, or no such folder, nothing is proved.

{createHash, randomBytes} = require 'node:crypto'
fs = require 'node:fs/promises'
net = require 'node:net'
os = require 'node:os'
path = require 'node:path'

class Life
  constructor: ->
    @token = randomBytes(16).toString 'hex' # server.takeover.lease-first
    @over = new Set # tokens of lives that are proved to be over, for as long as this one lasts

  # Never rejects: a life without a socket is one that another can't prove to be over.
  begin: ->
    try
      @folder = await ownFolder()
      @bootId = await fs.readFile '/proc/sys/kernel/random/boot_id', 'utf8'
      @listener = net.createServer (socket) -> socket.destroy()
      await new Promise (resolve, reject) =>
        @listener.on 'error', reject
        @listener.listen {path: @socketOf(@token), exclusive: yes}, resolve # a worker's own, not its cluster's
      @listener.unref()
    return

  end: -> @listener?.close()

  # Resolves to whether the life with this token is over. No proof is a no.
  isOver: (token) ->
    return yes if @over.has token
    return no unless @bootId
    socket = @socketOf token
    isRefused = await new Promise (resolve) ->
      connection = net.connect socket
      connection.on 'connect', ->
        connection.destroy()
        resolve no
      connection.on 'error', ({code}) -> resolve code is 'ECONNREFUSED'
    return no unless isRefused
    @over.add token # the file isn't needed any more, and Redis may bring the token back from an old file of its own
    await fs.rm socket, force: yes
    yes

  # A token that comes from Redis can be anything, so it isn't used as a name itself.
  socketOf: (token) -> path.join @folder, createHash('sha256').update("#{@bootId}\n#{token}").digest('hex')[...32]

# Resolves to a folder that nobody else can write to; rejects where there is none.
ownFolder = ->
  runtime = process.env.XDG_RUNTIME_DIR
  folder = if runtime then path.join runtime, 'jobqueue-lives' else path.join os.tmpdir(), "jobqueue-lives-#{process.getuid()}"
  await fs.mkdir folder, mode: 0o700, recursive: yes
  is_ = await fs.lstat folder
  throw new Error "#{folder} is open to others" unless is_.isDirectory() and is_.uid is process.geteuid() and not (is_.mode & 0o022)
  folder

module.exports = {Life}
