"""The decisions of a server, taken step by step, and in worlds of virtual time."""
