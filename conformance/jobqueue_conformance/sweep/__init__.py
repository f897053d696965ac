"""The fault sweep: one fault at each boundary of a job."""
