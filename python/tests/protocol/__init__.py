"""What stands in a message, a key and a command: the protocol's bytes."""
