"""Results that are kept: how a server stores them, and how a client finds them."""
