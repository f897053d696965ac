"""What a server needs of the machine that it runs on: a lock for its name, signals, and forks."""
