"""Tests of the mutation sample."""
