"""Evidence soundness: only devices that an attacker ran are ever convicted."""

from __future__ import annotations

from collections.abc import Iterable

from swarm.lab.checkers.verdict import Checker


class EvidenceSoundness(Checker):
    """Told every evidence pair that a correct device found."""

    def __init__(self, byzantine: Iterable[str]) -> None:
        """Know who really was byzantine."""
        super().__init__()
        self._byzantine = dict.fromkeys(byzantine)
        self.convicted: dict[str, None] = {}

    def excuse(self, device: str) -> None:
        """Know from now on that `device` lies."""
        self._byzantine[device] = None

    def on_evidence(self, finder: str, voter: str, kinds: str) -> None:
        """Note the conviction, and complain when the convict is innocent."""
        self.convicted[voter] = None
        if voter not in self._byzantine:
            self.complain(f"{finder} convicted {voter} by {kinds}, which is correct")
