"""The proxy between a program under test and Redis, and what passes it."""
