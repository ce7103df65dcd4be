"""Keys, signatures, digests and the Merkle tree of the log: pure functions that make no randomness."""
