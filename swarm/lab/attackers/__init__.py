"""Devices that lie on purpose, one file each."""
