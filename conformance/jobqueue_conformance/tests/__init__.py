"""The behaviour tests and the fault sweep, for whatever is under test."""
