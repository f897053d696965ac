"""What a model or a simulation can't show of takeover: its costs, and what a real Redis forgets."""
