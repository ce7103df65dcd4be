"""Reads the options of a built-in behaviour: each once, with its type, and refuses what nobody asked for."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TypeVar

from swarm.primitives.errors import ConfigError
from swarm.primitives.settings import nearest_hint

T = TypeVar("T")


class Options:
    """The options of one behaviour; take each by its name, then call `finish`.

    Raises `ConfigError` whose `where` is the option's name; the loader puts the place of the behaviour before it.
    """

    __slots__ = ("_known", "_values")

    def __init__(self, values: Mapping[str, object]) -> None:
        """Start reading `values`, without `kind` and `subject`."""
        self._values = values
        self._known: list[str] = []

    def number(self, name: str, default: T) -> float | T:
        """Return a finite number in plain units, or `default`."""
        value = self._take(name)
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise ConfigError(f"must be a number, got {value!r}", where=name)
        return float(value)

    def whole(self, name: str, default: T) -> int | T:
        """Return a whole number, or `default`."""
        value = self._take(name)
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, int):
            raise ConfigError(f"must be a whole number, got {value!r}", where=name)
        return value

    def text(self, name: str, default: T) -> str | T:
        """Return a text, or `default`."""
        value = self._take(name)
        if value is None:
            return default
        if not isinstance(value, str):
            raise ConfigError(f"must be text, got {value!r}", where=name)
        return value

    def required_text(self, name: str) -> str:
        """Return a text that must be there."""
        value = self.text(name, None)
        if not value:
            raise ConfigError("is missing", where=name)
        return value

    def finish(self) -> None:
        """Refuse the first option that was not taken."""
        for name in self._values:
            if name not in self._known:
                hint = nearest_hint(name, self._known) if self._known else "it has no options"
                raise ConfigError(f"unknown option {name!r}", where=name, hint=hint)

    def _take(self, name: str) -> object:
        self._known.append(name)
        return self._values.get(name)
