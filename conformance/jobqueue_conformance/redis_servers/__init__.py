"""The real Redis, from wherever it comes."""
