"""What applications meet when something breaks, through the public API and the wire alone."""
