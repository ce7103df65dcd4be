"""One vote per view: no correct voter publishes two N, two P, two F, or F and K in one view (evidence table).

Written from PROTOCOL section 3: it looks at statements on the wire and knows nothing of guard or core.
"""

from __future__ import annotations

from swarm.lab.checkers.verdict import Checker

_P, _N, _K, _F = (ord(letter) for letter in "PNKF")


class OneVotePerView(Checker):
    """Told every statement that a correct voter published, however often."""

    def __init__(self) -> None:
        """Start with no statement seen."""
        super().__init__()
        self._said: dict[tuple[str, int, int], bytes] = {}

    def on_statement(self, voter: str, kind: int, view: int, digest: bytes) -> None:
        """Compare with what the voter said before in this view."""
        if kind not in (_P, _N, _K, _F):
            return
        first = self._said.setdefault((voter, view, kind), digest)
        if first != digest:
            self.complain(f"{voter} signed two {chr(kind)} in view {view}")
        if (kind == _F and (voter, view, _K) in self._said) or (
            kind == _K and (voter, view, _F) in self._said
        ):
            self.complain(f"{voter} signed F and K in view {view}")
