"""Real agent processes over a real broker, supervised, impaired and never left behind."""
