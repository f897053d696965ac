"""Servers of all four kinds on a real Redis."""
