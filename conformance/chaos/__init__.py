"""A storm: real servers and clients under random faults, and an account of every job."""
