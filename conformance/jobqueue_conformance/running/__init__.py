"""One run of the suite in pytest: what is prepared, what a test can ask for, what is reported."""
