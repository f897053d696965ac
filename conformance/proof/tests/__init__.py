"""Tests of the gates and the verdicts."""
