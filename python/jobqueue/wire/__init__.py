"""The interface to redis-py: its connection pools, and everything that uses its private attributes."""
