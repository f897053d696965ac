"""Tests of the simulation itself, and a few hundred of its worlds."""
