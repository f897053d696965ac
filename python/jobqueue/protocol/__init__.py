"""Pure: the bytes of jobs and results, the names of keys, and the commands that a step takes."""
