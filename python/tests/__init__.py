"""The tests of the Python reference."""
