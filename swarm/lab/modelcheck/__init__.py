"""Explicit-state checks: every interleaving of a small world, run through the shipped code."""
