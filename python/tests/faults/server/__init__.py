"""What servers and their handlers meet."""
