"""Random mutants: small random edits of the reference, which the suite has to detect."""
