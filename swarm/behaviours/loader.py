"""Makes the behaviours that a device's file names: built-in kinds, and classes of the user's own modules."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType, ModuleType
from typing import Final, cast

from swarm.behaviours.behaviour import Behaviour, BehaviourContext
from swarm.behaviours.recording import Recording
from swarm.behaviours.sensor_file import SensorFile
from swarm.behaviours.thermostat import Thermostat
from swarm.primitives.errors import ConfigError
from swarm.primitives.ids import checked_name
from swarm.primitives.limits import BEHAVIOURS_MAX
from swarm.primitives.settings import nearest_hint

BehaviourClass = Callable[[BehaviourContext, Mapping[str, object]], Behaviour]

BUILT_IN: Final[Mapping[str, BehaviourClass]] = MappingProxyType(
    {"thermostat": Thermostat, "csv": Recording, "file": SensorFile}
)

_METHODS: Final = ("on_open", "on_outcome")


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedBehaviour:
    """A behaviour, the name that reports call it by, and the one subject it answers (None = every subject)."""

    kind: str
    subject: str | None
    behaviour: Behaviour

    def answers(self, subject: str) -> bool:
        """Answer whether this behaviour is asked about `subject`."""
        return self.subject is None or self.subject == subject


@dataclass(frozen=True, slots=True)
class Behaviours:
    """All behaviours of a device in the order of its file."""

    loaded: tuple[LoadedBehaviour, ...] = ()

    def for_subject(self, subject: str) -> tuple[LoadedBehaviour, ...]:
        """Return those that are asked about `subject`, in the order of the file."""
        return tuple(loaded for loaded in self.loaded if loaded.answers(subject))


def load_behaviours(
    blocks: Sequence[Mapping[str, object]], context: BehaviourContext, *, where: str = "behaviours"
) -> Behaviours:
    """Return the behaviours of `blocks`, each `{kind, subject?, option: value, ...}` as its file says.

    `kind` is `thermostat`, `csv`, `file` or `module:Class`; importing the module runs the user's code. Raises
    `ConfigError` with the key's path (`behaviours[0].noise`) for an unknown kind or option, and in the simulator
    for a behaviour that reads the real world.
    """
    if len(blocks) > BEHAVIOURS_MAX:
        raise ConfigError(f"at most {BEHAVIOURS_MAX} behaviours, {len(blocks)} given", where=where)
    return Behaviours(tuple(_load(block, context, f"{where}[{index}]") for index, block in enumerate(blocks)))


def _load(block: Mapping[str, object], context: BehaviourContext, where: str) -> LoadedBehaviour:
    kind = block.get("kind")
    if not isinstance(kind, str):
        raise ConfigError("is missing", where=f"{where}.kind", hint=f"{', '.join(BUILT_IN)} or module:Class")
    subject = block.get("subject")
    if subject is not None:
        if not isinstance(subject, str):
            raise ConfigError(f"must be text, got {subject!r}", where=f"{where}.subject")
        checked_name(subject, where=f"{where}.subject", what="subject")
    make = _import(kind, f"{where}.kind") if ":" in kind else BUILT_IN.get(kind)
    if make is None:
        raise ConfigError(
            f"unknown behaviour {kind!r}",
            where=f"{where}.kind",
            hint=f"{nearest_hint(kind, BUILT_IN)} or module:Class",
        )
    if context.simulated and not getattr(make, "in_simulator", False):
        raise ConfigError(
            f"behaviour {kind!r} reads the real world and cannot run in the simulator",
            where=f"{where}.kind",
            hint="use thermostat or csv, or run with --engine mqtt",
        )
    options = {key: value for key, value in block.items() if key not in {"kind", "subject"}}
    try:
        behaviour = make(context, options)
    except ConfigError as error:
        inner = f"{where}.{error.where}" if error.where else where
        raise ConfigError(error.message, where=inner, hint=error.hint) from None
    except Exception as error:
        raise ConfigError(f"{kind} cannot be built: {type(error).__name__}: {error}", where=where) from error
    return LoadedBehaviour(kind=kind, subject=subject, behaviour=behaviour)


def import_named(target: str, where: str) -> tuple[ModuleType, object | None]:
    """Import the module of `module:Name`, which runs the user's code; returns it and what it calls `Name`, if anything.

    Raises `ConfigError` at `where` for whatever goes wrong in the import. Behaviours and applications come this way.
    """
    module_name, _, name = target.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        missing = f"there is no module {error.name!r}"
        raise ConfigError(
            f"cannot import {module_name}: {missing}", where=where, hint="is it installed, or on PYTHONPATH?"
        ) from error
    except Exception as error:
        # Whatever the user's module does while it is imported is the user's mistake, not ours.
        raise ConfigError(
            f"cannot import {module_name}: {type(error).__name__}: {error}",
            where=where,
            hint="mend that module",
        ) from error
    return module, getattr(module, name, None)


def _import(kind: str, where: str) -> BehaviourClass:
    module, made = import_named(kind, where)
    name = kind.partition(":")[2]
    if made is None:
        known = [name for name, value in vars(module).items() if isinstance(value, type)]
        raise ConfigError(
            f"{module.__name__} has no class {name!r}", where=where, hint=nearest_hint(name, known)
        )
    missing = [method for method in _METHODS if not callable(getattr(made, method, None))]
    if missing or not isinstance(made, type):
        raise ConfigError(f"{kind} is no behaviour: it has no {' and no '.join(missing)}", where=where)
    return cast("BehaviourClass", made)
