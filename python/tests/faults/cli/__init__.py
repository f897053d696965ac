"""What operators meet."""
