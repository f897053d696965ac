# A job server with one handler. Stop it by SIGTERM or Ctrl-C: it finishes what it has claimed.

JobQueue = require '..'

jobs = JobQueue.createServer url: process.env.REDIS_URL

jobs.on 'echo', (data) -> data

process.on signal, (-> jobs.stop()) for signal in ['SIGTERM', 'SIGINT']

jobs.run()
