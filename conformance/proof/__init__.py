"""The kit's proof of itself: kill matrix, panels and gates, run by `prove.py`. Never shipped."""
