"""What a client has to do."""
