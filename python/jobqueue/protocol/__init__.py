"""Pure: the bytes of jobs and results, the names of keys, and the commands of a server."""
