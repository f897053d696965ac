"""The drivers for threads. `jobqueue.aio` has the same files with the same names for asyncio."""
