"""What this machine and broker can do, measured beside a bare loop."""
