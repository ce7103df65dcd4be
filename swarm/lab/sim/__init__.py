"""The deterministic simulator: scheduler, network, world and faults in virtual time, one process."""
