# The library's face: `createClient` for whoever has jobs, `createServer` for whoever runs them, and the error that both use.

{Client} = require './client'
{Server} = require './server'
{JobError} = require './protocol'

module.exports =
  createClient: (options) -> new Client options
  createServer: (options) -> new Server options
  JobError: JobError
