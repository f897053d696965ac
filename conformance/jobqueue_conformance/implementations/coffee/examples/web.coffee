# A web server whose endpoint answers with the result of a job. Beside it runs jobs.coffee, or as many of them as it takes.

express = require 'express'
JobQueue = require '..'

app = express()
jobs = JobQueue.createClient url: process.env.REDIS_URL

app.get '/echo', (req, res) ->
  # Queue the request.
  job = jobs.run 'echo', {request: req.query.q ? ''}, timeoutMs: 10000

  # Answer the browser when the result comes back.
  job = job.then (data) ->
    res.type('text').send data.request

  # Answer it all the same when none does.
  job = job.catch (error) ->
    res.status(502).type('text').send "error! #{error.code}: #{error.message}"

  # Whatever went wrong in the two steps above is no longer the job's, and shows.
  job.done()

server = app.listen process.env.PORT ? 4000, ->
  console.log "Listening on port #{server.address().port}"
