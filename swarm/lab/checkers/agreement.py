"""Agreement: no two correct devices ever deliver different blocks at one height (PROTOCOL section 4)."""

from __future__ import annotations

from swarm.lab.checkers.verdict import Checker


class Agreement(Checker):
    """Told every delivery of every correct device."""

    def __init__(self) -> None:
        """Start with no block known."""
        super().__init__()
        self._block: dict[int, tuple[bytes, str]] = {}
        self._height: dict[str, int] = {}
        self.forked: dict[int, None] = {}

    def on_delivered(self, device: str, height: int, block: bytes) -> None:
        """Compare with what others delivered there, and with the order of this device's own deliveries."""
        first = self._block.setdefault(height, (block, device))
        if first[0] != block:
            self.forked[height] = None
            self.complain(
                f"at height {height} {first[1]} has {first[0].hex()[:8]}, {device} has {block.hex()[:8]}",
            )
        before = self._height.get(device)
        if before is not None and height != before + 1:
            self.complain(f"{device} delivered height {height} after {before}")
        self._height[device] = height

    def on_started(self, device: str, height: int) -> None:
        """A start goes on above the height its store holds."""
        self._height[device] = height

    def block_at(self, height: int) -> bytes | None:
        """Return the block that the first correct device delivered at `height`."""
        found = self._block.get(height)
        return None if found is None else found[0]
