"""The seam to redis-py: connections, pools, addresses and TLS."""
