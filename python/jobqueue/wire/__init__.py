"""The seam to redis-py: where its connections come from, and all that depends on its private parts."""
