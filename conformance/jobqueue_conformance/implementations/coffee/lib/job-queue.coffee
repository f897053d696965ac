# The library's face: `createClient` to run jobs, `createServer` to serve them, and the errors.

{Client} = require './client'
{Server} = require './server'
{JobError, JobTimeout} = require './protocol'

module.exports =
  createClient: (options) -> new Client options
  createServer: (options) -> new Server options
  JobError: JobError
  JobTimeout: JobTimeout
