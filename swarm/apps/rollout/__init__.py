"""The rollout of firmware as a pure function of the log prefix (docs/FIRMWARE.md)."""
