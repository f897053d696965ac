"""The conformance kit of the JobQueue protocol: it tests programs, and imports none of them."""
