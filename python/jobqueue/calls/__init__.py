"""Pure: what a client does next. Nothing here waits, reads a clock or imports redis-py."""
