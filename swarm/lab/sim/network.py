"""The simulated network: latency, loss, duplication, reordering, partitions and one-way cuts, all from one seed."""

from __future__ import annotations

from random import Random

from swarm.lab.scenario.schema import Cut, Network, Partition
from swarm.lab.sim.quantiles import sample_us

MILLION = 1_000_000

IN_ORDER_GAP_US = 1
"""A broker keeps the order of one publisher's frames to one subscriber; `reorder` is what breaks it."""


class SimNetwork:
    """Decides for each frame and receiver when, and how often, it arrives; an empty answer is a loss."""

    def __init__(self, network: Network, seed: int) -> None:
        """Draw everything from a generator of its own, so that the workload does not change the weather."""
        latency = network.latency
        self._median_us, self._p99_us = latency.median_ms * 1000, latency.p99_ms * 1000
        self._loss_ppm, self._duplicate_ppm = network.loss_ppm, network.duplicate_ppm
        self._reorder_ppm = network.reorder_ppm
        self._random = Random(f"network/{seed}")
        self._last_us: dict[tuple[str, str], int] = {}
        self._groups: tuple[tuple[str, ...], ...] = ()
        self._cuts: list[Cut] = []
        self.dropped = 0
        self.delivered = 0

    # ------------------------------------------------------------------------------ faults

    def partition(self, fault: Partition) -> None:
        """Let only devices of one group reach each other; who is in no group is alone."""
        self._groups = fault.groups

    def cut(self, fault: Cut) -> None:
        """Let nothing from the sender reach the receivers."""
        self._cuts.append(fault)

    def heal(self) -> None:
        """End every partition and cut."""
        self._groups = ()
        self._cuts = []

    def reaches(self, sender: str, receiver: str) -> bool:
        """Answer whether a frame from `sender` can reach `receiver` now."""
        if not self._groups and not self._cuts:
            return True
        if self._groups and not any(sender in group and receiver in group for group in self._groups):
            return False
        return not any(cut.sender == sender and receiver in cut.receivers for cut in self._cuts)

    # ------------------------------------------------------------------------------ frames

    def arrivals_us(self, sender: str, receiver: str, now_us: int) -> list[int]:
        """Return the arrival times of one frame at one receiver."""
        if not self.reaches(sender, receiver) or self._happens(self._loss_ppm):
            self.dropped += 1
            return []
        copies = 2 if self._happens(self._duplicate_ppm) else 1
        times = [self._arrival_us(sender, receiver, now_us) for _ in range(copies)]
        self.delivered += copies
        return times

    def _arrival_us(self, sender: str, receiver: str, now_us: int) -> int:
        arrival = now_us + sample_us(self._random, self._median_us, self._p99_us)
        if self._happens(self._reorder_ppm):
            return arrival
        pair = (sender, receiver)
        arrival = max(arrival, self._last_us.get(pair, -1) + IN_ORDER_GAP_US)
        self._last_us[pair] = arrival
        return arrival

    def _happens(self, ppm: int) -> bool:
        return bool(ppm) and self._random.randrange(MILLION) < ppm
