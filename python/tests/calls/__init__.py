"""The decisions of a client, taken step by step, and in worlds of virtual time."""
