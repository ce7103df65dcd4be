"""Applications on the log: deterministic state machines that take commands in order and produce events."""
