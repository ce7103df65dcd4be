"""No lost commit: what a correct device delivered it still has after a restart, at the same place in the log."""

from __future__ import annotations

from swarm.lab.checkers.verdict import Checker


class NoLostCommit(Checker):
    """Told deliveries, starts and commits at their origins of correct devices, and the logs at the end."""

    def __init__(self) -> None:
        """Start with nothing delivered."""
        super().__init__()
        self._delivered: dict[str, int] = {}
        self._committed: list[tuple[str, int]] = []

    def on_delivered(self, device: str, height: int) -> None:
        """Remember the height: from now on the device must never be below it."""
        self._delivered[device] = height

    def on_started(self, device: str, height: int) -> None:
        """A store that starts below what was delivered has lost a commit."""
        before = self._delivered.get(device, 0)
        if height < before:
            self.complain(f"{device} had delivered height {before} and started again at {height}")

    def on_committed(self, device: str, height: int) -> None:
        """An origin was told that its submission is final at `height`."""
        self._committed.append((device, height))

    def on_end(self, heights: dict[str, int]) -> None:
        """Check that some correct device that is up has every committed height; `heights` by device."""
        top = max(heights.values(), default=0)
        for device, height in self._committed:
            if heights and height > top and device in heights:
                self.complain(f"{device} was told height {height}, no log reaches it")
