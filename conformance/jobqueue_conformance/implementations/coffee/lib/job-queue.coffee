# The library's face: `createClient` for whoever has jobs, `createServer` for whoever runs them, and the errors.

{Client} = require './client'
{Server} = require './server'
{JobError, JobTimeout} = require './protocol'

module.exports =
  createClient: (options) -> new Client options
  createServer: (options) -> new Server options
  JobError: JobError
  JobTimeout: JobTimeout
