"""The built-in behaviour `file`: a sensor that the operating system shows as a file."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Final

from swarm.apps.decisions.rules import DecisionView, Outcome
from swarm.behaviours.behaviour import BehaviourContext
from swarm.behaviours.options import Options
from swarm.primitives.errors import ConfigError

SENSOR_BYTES_MAX: Final = 4096
"""A sensor says a number or a line of JSON; whatever is longer is another file."""


class SensorFile:
    """Reads a number from a file each time a decision opens, such as `/sys/class/thermal/thermal_zone0/temp`.

    Options: `path`; `field`, the key of a JSON object or the column of a line counted from 0 (default: the first
    word); `factor` (1), such as 0.001 for milli-degrees. A file that cannot be read or holds no number abstains: the
    error is raised in `on_open`, where whoever runs the behaviour reports it. Refused in the simulator.
    """

    in_simulator: ClassVar[bool] = False

    def __init__(self, context: BehaviourContext, options: Mapping[str, object]) -> None:
        """Read the options; raises `ConfigError` naming a bad one, and in the simulator."""
        if context.simulated:
            raise ConfigError(
                "behaviour 'file' reads this machine and cannot run in the simulator",
                where="kind",
                hint="use thermostat or csv, or run with --engine mqtt",
            )
        reader = Options(options)
        self._path = Path(reader.required_text("path"))
        field = options.get("field")
        self._field: str | int = (
            reader.whole("field", 0) if isinstance(field, int) else reader.text("field", 0)
        )
        self._factor = reader.number("factor", 1.0)
        reader.finish()

    def on_open(self, decision: DecisionView, now_ms: int) -> str | float | None:  # noqa: ARG002  -- the file has its time
        """Return the number that the file holds now, times `factor`; for options the word, if it is one of them."""
        with self._path.open("rb") as file:
            data = file.read(SENSOR_BYTES_MAX + 1)
        if len(data) > SENSOR_BYTES_MAX:
            raise ValueError(f"{self._path} holds more than {SENSOR_BYTES_MAX} bytes")
        word = self._word(data.decode("utf-8"))
        if decision.options:
            return word if word in decision.options else None
        number = float(word) * self._factor
        if not math.isfinite(number):
            raise ValueError(f"{self._path} holds {word!r}, which is no finite number")
        return number

    def on_outcome(self, outcome: Outcome, now_ms: int) -> None:
        """Do nothing: a sensor does not act."""

    def _word(self, text: str) -> str:
        if isinstance(self._field, str):
            value = json.loads(text)
            if not isinstance(value, dict) or self._field not in value:
                raise ValueError(f"{self._path} is no JSON object with the key {self._field!r}")
            return str(value[self._field])
        words = text.split()
        if not 0 <= self._field < len(words):
            raise ValueError(f"{self._path} has no word {self._field}")
        return words[self._field]
