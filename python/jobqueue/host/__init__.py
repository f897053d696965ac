"""The operating system: the lock of a processor name, signals, forks, and logging that never raises."""
