"""What a device senses and does with an outcome: the one place where a device touches the world."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Protocol, runtime_checkable

from swarm.apps.decisions.rules import DecisionView, Outcome

Ballot = int | str
"""An integer in units of 10^-scale, or the name of an option."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BehaviourContext:
    """Everything a behaviour may know about where it runs."""

    device: str
    seed: int
    """Equal for every start of this device in a scenario; feed it to `random.Random`."""
    simulated: bool
    """True in the simulator: a behaviour that reads the real world must refuse to be built there."""
    now_ms: int
    """Monotonic milliseconds of the device when the behaviour was built."""


@runtime_checkable
class Behaviour(Protocol):
    """A plug-in of a device, named in its YAML as `kind` or `module:Class` with its options."""

    in_simulator: ClassVar[bool]

    def __init__(self, context: BehaviourContext, options: Mapping[str, object]) -> None:
        """Read the options; raise `ConfigError` naming a bad one."""

    def on_open(self, decision: DecisionView, now_ms: int) -> Ballot | float | None:
        """Return this device's ballot, or None to abstain.

        A number decision takes an integer in units of 10^-scale or a float in plain units (rounded half to even
        here, at the border, before it is signed); an option decision takes the option's name.
        """

    def on_outcome(self, outcome: Outcome, now_ms: int) -> None:
        """Act on a closed decision; must be idempotent, because a restart may meet it again."""


@runtime_checkable
class HealthChecked(Protocol):
    """A behaviour that can say whether it is able to do its work; the device's self test asks it (FIRMWARE section 6)."""

    def check_health(self, now_ms: int) -> str | None:
        """Return None when all is well, else why not: a code of a-z, 0-9 and hyphens for the log, or words.

        A new image whose behaviour says anything but None goes back to the old one. Must not wait for the network.
        """
