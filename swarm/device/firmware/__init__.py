"""Firmware on one device: its own update and, where it votes, its part in everybody's (FIRMWARE sections 4 to 7)."""
