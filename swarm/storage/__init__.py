"""Where a device keeps what it signed and finalized: one synced transaction a turn, and the mark beside it."""
