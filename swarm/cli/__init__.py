"""The command line: one file per command; it builds concrete parts and decides nothing."""
