"""Applications of a user's own, as `apps` of an `agent.yaml` or `operator.yaml` names them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from swarm.apps.router import BUILT_IN, Factory
from swarm.behaviours.loader import import_named
from swarm.primitives.errors import ConfigError
from swarm.wire.genesis import Genesis


def import_apps(apps: Mapping[str, str], genesis: Genesis, source: str) -> dict[str, Factory]:
    """Return what makes each application that a file adds (name -> `module:Class`); importing runs the user's code.

    `source` is the file's name for messages. Raises `ConfigError` for what is no application, or not of genesis.
    """
    named = [entry.partition("@")[0] for entry in genesis.apps]
    extra: dict[str, Factory] = {}
    for name, target in apps.items():
        where = f"{source}: apps.{name}"
        if name in BUILT_IN:
            raise ConfigError(f"{name!r} is built in and cannot be replaced", where=where)
        if name not in named:
            raise ConfigError(f"genesis names no application {name!r}", where=where, hint="remove the line")
        extra[name] = _import_app(target, where)
    return extra


def _import_app(target: str, where: str) -> Factory:
    _, made = import_named(target, where)
    wanted = ("apply", "snapshot", "restore", "name", "version")
    missing = [attribute for attribute in wanted if not hasattr(made, attribute)]
    if not isinstance(made, type) or missing:
        what = f"has no {', no '.join(missing)}" if isinstance(made, type) else "is no class"
        raise ConfigError(f"{target} is no application: it {what}", where=where)

    def make() -> object:
        try:
            return made()
        except Exception as error:
            raise ConfigError(
                f"{target} cannot be built: {type(error).__name__}: {error}", where=where
            ) from error

    return cast("Factory", make)
