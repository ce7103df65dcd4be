"""The fault budget: how many voters may fail, how many may lie, and what a quorum is.

One dial `u` (UpRight model, Clement et al., SOSP 2009; PROTOCOL section 1): `q = n - u` votes decide, any two
quorums share `n - 2u` voters, so `r = n - 2u - 1` voters may lie without two correct devices ever disagreeing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from swarm.primitives.errors import ConfigError

PRESETS: Final = ("balanced", "majority", "crash")


@dataclass(frozen=True, slots=True)
class Budget:
    """`n` voters of which `u` may fail in any way while the log still makes progress."""

    n: int
    u: int

    def __post_init__(self) -> None:
        """Refuse an impossible budget with its numbers."""
        if self.n < 1:
            raise ConfigError(f"a swarm needs at least one voter, {self.n} given", where="voters")
        if self.u < 0 or self.r < 0:
            raise ConfigError(
                f"u = {self.u} with n = {self.n} voters gives r = n - 2u - 1 = {self.r}; both must be >= 0",
                where="budget",
                hint=f"u may be 0 to {(self.n - 1) // 2}",
            )

    @property
    def q(self) -> int:
        """Votes that make a certificate."""
        return self.n - self.u

    @property
    def r(self) -> int:
        """Voters that may lie without any two correct devices ever disagreeing."""
        return self.n - 2 * self.u - 1

    def in_words(self) -> str:
        """Say in two sentences what this budget survives and what breaks it."""
        silent = (
            "any single silent voter stops progress" if self.u == 0 else _up_to(self.u, "fail or be silent")
        )
        if self.r == 0:
            lying = "one lying voter can break agreement"
        else:
            lying = f"{_up_to(self.r, 'lie')} without breaking agreement; {self.r + 1} liars can break it"
        return f"n={self.n} u={self.u} r={self.r} q={self.q}: {silent}; {lying}"


def _up_to(count: int, verb: str) -> str:
    return f"up to {count} voter{'s' if count > 1 else ''} may {verb}"


def budget_of(n: int, choice: str | int, *, where: str = "budget") -> Budget:
    """Return the budget of `n` voters for a preset name or an explicit `u`.

    Raises `ConfigError` with the numbers for an impossible budget, and for an unknown preset.
    """
    if n < 1:
        raise ConfigError(f"a swarm needs at least one voter, {n} given", where=where)
    if isinstance(choice, int):
        try:
            return Budget(n, choice)
        except ConfigError as error:
            raise ConfigError(error.message, where=where, hint=error.hint) from None
    if choice == "balanced":
        return Budget(n, (n - 1) // 3)
    if choice == "crash":
        return Budget(n, (n - 1) // 2)
    if choice == "majority":
        # The largest u with r = n - 2u - 1 >= floor(n/2): only a strict majority of voters breaks agreement.
        return Budget(n, max(0, (n - 1 - n // 2) // 2))
    raise ConfigError(f"unknown budget {choice!r}", where=where, hint="balanced, majority, crash or {u: N}")
