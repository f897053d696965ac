"""The programs under test: what they are, how they are started, and how they end."""
