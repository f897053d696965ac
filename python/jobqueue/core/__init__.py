"""Pure: what a server does next, and what both parties need. Nothing here waits or reads a clock."""
