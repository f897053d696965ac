"""Mutants that nobody chose: small random edits of the reference, which the suite is to notice."""
