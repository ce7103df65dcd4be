"""The `simulated` install back end: a board of `firmware_sim` with a data partition, whose power can go at any time."""
