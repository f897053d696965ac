"""Pure: what a server or a client does next. Nothing here waits, reads a clock or imports redis-py."""
