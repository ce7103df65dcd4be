"""The built-in behaviour `thermostat`: a sensor around a true value, honest or lying."""

from __future__ import annotations

from collections.abc import Mapping
from random import Random
from typing import ClassVar

from swarm.apps.decisions.rules import DecisionView, Outcome
from swarm.behaviours.behaviour import BehaviourContext
from swarm.behaviours.options import Options
from swarm.crypto.digest import tagged_sha256
from swarm.primitives.errors import ConfigError


class Thermostat:
    """Senses `mean + bias + noise`, or says `lie` whatever it senses.

    Options, numbers in plain units (degrees): `mean` (default 20), `noise` (standard deviation, 0), `bias` (0),
    `lie` (a number; none), `choice` (the option it ballots for where it is offered; else it abstains).
    """

    in_simulator: ClassVar[bool] = True

    def __init__(self, context: BehaviourContext, options: Mapping[str, object]) -> None:
        """Read the options; raises `ConfigError` naming a bad one."""
        reader = Options(options)
        self._mean = reader.number("mean", 20.0)
        self._noise = reader.number("noise", 0.0)
        self._bias = reader.number("bias", 0.0)
        self._lie = reader.number("lie", None)
        self._choice = reader.text("choice", None)
        reader.finish()
        if self._noise < 0:
            raise ConfigError(f"a standard deviation is not negative, got {self._noise:g}", where="noise")
        self._seed = context.seed.to_bytes((context.seed.bit_length() + 8) // 8, "big", signed=True)
        self.last_outcome: Outcome | None = None

    def on_open(self, decision: DecisionView, now_ms: int) -> str | float | None:  # noqa: ARG002  -- a fixed scene
        """Return what the sensor says, in plain units; for options the chosen one, or None."""
        if decision.options:
            return self._choice if self._choice in decision.options else None
        if self._lie is not None:
            return self._lie
        return self._mean + self._bias + self._noise * self._deviation(decision.id)

    def on_outcome(self, outcome: Outcome, now_ms: int) -> None:  # noqa: ARG002  -- it has nothing to heat
        """Keep the outcome, as a thermostat keeps its set point."""
        self.last_outcome = outcome

    def _deviation(self, decision: bytes) -> float:
        # Seeded per decision, so that being asked again after a crash gives the same reading. Twelve uniform numbers
        # less six have mean 0 and variance 1. Added as integers: `gauss` goes through logarithm and cosine, whose
        # last bit differs between machines, and `sum` of floats rounds differently from Python 3.12 on.
        random = Random(tagged_sha256("thermostat", self._seed, decision))
        return sum(random.getrandbits(32) for _ in range(12)) / 2**32 - 6.0
