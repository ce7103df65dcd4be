"""The built-in behaviour `csv`: replays a column of a recording, one row for each decision."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Final

from swarm.apps.decisions.rules import DecisionView, Outcome
from swarm.behaviours.behaviour import BehaviourContext
from swarm.behaviours.options import Options
from swarm.primitives.errors import ConfigError
from swarm.primitives.limits import DECISIONS_OPEN_MAX

RECORDING_ROWS_MAX: Final = 1_000_000


class Recording:
    """Answers decisions with the rows of a column in order, and starts again after the last one.

    Options: `path` of a CSV file with a header line, `column` (default: the first one), `factor` (1) by which numbers
    are multiplied, `start` (0), the first row used. A decision about options takes the text of the row, if it is one
    of them; an empty or unreadable row abstains. Allowed in the simulator: the file is read once, when it is built.
    """

    in_simulator: ClassVar[bool] = True

    def __init__(self, context: BehaviourContext, options: Mapping[str, object]) -> None:  # noqa: ARG002  -- the plug-in's shape
        """Read options and file; raises `ConfigError` naming what is wrong with either."""
        reader = Options(options)
        path = Path(reader.required_text("path"))
        column = reader.text("column", None)
        self._factor = reader.number("factor", 1.0)
        start = reader.whole("start", 0)
        reader.finish()
        self._rows = _read_column(path, column)
        self._next = start % len(self._rows)
        self._answered: dict[bytes, str] = {}

    def on_open(self, decision: DecisionView, now_ms: int) -> str | float | None:  # noqa: ARG002  -- rows, not times
        """Return the next row; asked again for one decision, the same row."""
        cell = self._answered.get(decision.id)
        if cell is None:
            cell = self._rows[self._next]
            self._next = (self._next + 1) % len(self._rows)
            self._answered[decision.id] = cell
            if len(self._answered) > DECISIONS_OPEN_MAX:
                del self._answered[next(iter(self._answered))]
        if decision.options:
            return cell if cell in decision.options else None
        number = _number(cell)
        return None if number is None else number * self._factor

    def on_outcome(self, outcome: Outcome, now_ms: int) -> None:  # noqa: ARG002  -- a recording does not act
        """Forget which row the decision got."""
        self._answered.pop(outcome.decision, None)


def _read_column(path: Path, column: str | None) -> list[str]:
    try:
        with path.open(newline="", encoding="utf-8") as file:
            lines = csv.reader(file)
            header = [name.strip() for name in next(lines, [])]
            if not header:
                raise ConfigError(f"{path} is empty", where="path")
            if column is not None and column not in header:
                raise ConfigError(
                    f"{path} has no column {column!r}", where="column", hint=f"it has {', '.join(header)}"
                )
            index = 0 if column is None else header.index(column)
            rows: list[str] = []
            for line in lines:
                if len(rows) >= RECORDING_ROWS_MAX:
                    raise ConfigError(f"{path} has more than {RECORDING_ROWS_MAX} rows", where="path")
                rows.append(line[index].strip() if index < len(line) else "")
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}", where="path") from None
    except UnicodeDecodeError:
        raise ConfigError(f"cannot read {path}: it is no UTF-8 text", where="path") from None
    except csv.Error as error:
        raise ConfigError(f"cannot read {path} as CSV: {error}", where="path") from None
    if not rows:
        raise ConfigError(f"{path} has a header but no rows", where="path")
    return rows


def _number(cell: str) -> float | None:
    try:
        number = float(cell)
    except ValueError:
        return None
    return number if math.isfinite(number) else None
