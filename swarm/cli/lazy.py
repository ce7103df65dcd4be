"""A command table that imports a command's module only when that very command is called.

So `swarm --help` costs next to nothing, and `swarm agent` never loads what only `swarm run` needs.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, cast

import typer
import typer.core
import typer.main

from swarm.cli.boundary import run_guarded
from swarm.cli.logs import configure_early, with_log_options
from swarm.primitives.errors import check


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One command of the table: a function, or a group of functions."""

    summary: str
    """The line in `swarm --help`."""
    target: str = ""
    """`module:function`, for a command."""
    commands: Mapping[str, str] = field(default_factory=dict)
    """Name -> `module:function`, for a group."""


class LazyGroup(typer.core.TyperGroup):
    """The root command. Subclasses name their `table`; `main` runs inside the boundary of all errors."""

    table: ClassVar[Mapping[str, Entry]] = {}

    def __init__(self, **attributes: Any) -> None:
        """List the table's names with a stand-in each, which knows no more than its line of help."""
        super().__init__(**attributes)
        for name, entry in self.table.items():
            self.commands[name] = typer.core.TyperCommand(name, help=entry.summary, rich_markup_mode=None)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Return the called command itself: here, and only here, its module is imported."""
        name, command, rest = super().resolve_command(ctx, args)
        if name is not None and name in self.table:
            command = load_command(name, self.table[name])
        return name, command, rest

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,  # noqa: ARG002  -- the signature is Typer's
        standalone_mode: bool = True,  # noqa: ARG002  -- the signature is Typer's
        windows_expand_args: bool = True,  # noqa: ARG002  -- the signature is Typer's
        **extra: Any,
    ) -> Any:
        """Run the command line `args` (default: the process's own) and exit with its code."""
        words = list(sys.argv[1:] if args is None else args)
        configure_early(words)

        def call() -> Any:
            with self.make_context(prog_name or "swarm", words, **extra) as context:
                return self.invoke(context)

        sys.exit(run_guarded(call))


def new_app(**attributes: Any) -> typer.Typer:
    """Return a Typer application with the settings of all of ours: plain help, no shell completion to install."""
    return typer.Typer(
        add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False, **attributes
    )


def load_command(name: str, entry: Entry) -> Any:
    """Import what `entry` names and return it as a command, with the options of logging added."""
    app = new_app(help=entry.summary)
    if entry.target:
        app.command(name)(with_log_options(_function_at(entry.target)))
    else:
        app.callback()(_no_options)
        for sub_name, target in entry.commands.items():
            app.command(sub_name)(with_log_options(_function_at(target)))
    command = typer.main.get_command(app)
    command.name = name
    return command


def _function_at(target: str) -> Callable[..., Any]:
    module, _, function = target.partition(":")
    found = getattr(importlib.import_module(module), function)
    check(callable(found), f"{target} is no command")
    return cast("Callable[..., Any]", found)


def _no_options() -> None:
    pass
