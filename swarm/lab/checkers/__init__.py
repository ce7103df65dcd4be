"""Checks of a run's record, one file each, written from PROTOCOL.md and not from the code."""
