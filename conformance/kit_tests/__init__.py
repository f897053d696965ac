"""Tests of the kit's own machinery."""
