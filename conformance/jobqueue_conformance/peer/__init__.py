"""The suite's own side of the conversation: a client and a server on raw Redis commands."""
