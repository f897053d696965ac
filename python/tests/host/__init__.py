"""The lock file, signals and forks."""
