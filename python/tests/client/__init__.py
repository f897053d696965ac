"""Clients of both colours on a real Redis."""
