"""What a server has to do when another life is gone, its own or of another server."""
