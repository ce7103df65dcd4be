"""`swarm`: the console script and its table of commands."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, ClassVar, Final

import typer

from swarm.cli.boundary import EXIT_BAD_INPUT
from swarm.cli.lazy import Entry, LazyGroup, new_app
from swarm.primitives.version import VERSION

COMMANDS: Final[Mapping[str, Entry]] = MappingProxyType(
    {
        "run": Entry(
            summary="Run a scenario in the simulator or over a real broker.", target="swarm.cli.run:run"
        ),
        "init": Entry(
            summary="Make a new swarm: genesis, a folder per device, an operator.",
            target="swarm.cli.init:init",
        ),
        "broker": Entry(
            summary="Run the embedded MQTT broker, on this machine only.", target="swarm.cli.broker:broker"
        ),
        "agent": Entry(
            summary="Run one device in the foreground; it never starts a broker.",
            target="swarm.cli.agent:agent",
        ),
        "decide": Entry(
            summary="Open a decision, wait, and print its proved outcome.", target="swarm.cli.decide:decide"
        ),
        "submit": Entry(summary="Put a note on the log, proved.", target="swarm.cli.submit:submit"),
        "status": Entry(
            summary="What every voter claims about itself, and if they suffice.",
            target="swarm.cli.status:status",
        ),
        "log": Entry(
            summary="Print the verified log, follow it, or prove an entry of it.", target="swarm.cli.log:log"
        ),
        "verify": Entry(
            summary="Check a proof with the genesis file alone, offline.", target="swarm.cli.verify:verify"
        ),
        "bench": Entry(
            summary="Measure what this machine and broker can do.", target="swarm.cli.bench:bench"
        ),
        "firmware": Entry(
            summary="Let the swarm approve, roll out and take back its firmware.",
            commands={
                "keygen": "swarm.cli.firmware.keys:keygen",
                "pack": "swarm.cli.firmware.pack:pack",
                "sign": "swarm.cli.firmware.signing:sign",
                "verify": "swarm.cli.firmware.check:verify",
                "propose": "swarm.cli.firmware.releases:propose",
                "approve": "swarm.cli.firmware.releases:approve",
                "seed": "swarm.cli.firmware.serving:seed",
                "rollout": "swarm.cli.firmware.plans:rollout",
                "status": "swarm.cli.firmware.status:status",
                "history": "swarm.cli.firmware.history:history",
                "halt": "swarm.cli.firmware.plans:halt",
                "resume": "swarm.cli.firmware.plans:resume",
                "rollback": "swarm.cli.firmware.plans:rollback",
                "abandon": "swarm.cli.firmware.plans:abandon",
                "revoke": "swarm.cli.firmware.releases:revoke",
                "keys": "swarm.cli.firmware.rotation:keys",
                "consent": "swarm.cli.firmware.plans:consent",
            },
        ),
        "store": Entry(
            summary="Check or repair the store of a device.",
            commands={"check": "swarm.cli.store:check", "repair": "swarm.cli.store:repair"},
        ),
    }
)
"""Only what works is listed. One file per command; its module loads when it is called, never before."""


class _Root(LazyGroup):
    table: ClassVar[Mapping[str, Entry]] = COMMANDS


def root(
    context: typer.Context,
    *,
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    """Devices that do not trust each other decide together over MQTT."""
    if version:
        print(f"swarm {VERSION}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        typer.echo(context.get_help(), err=True)
        raise typer.Exit(EXIT_BAD_INPUT)


app: Final = new_app(cls=_Root)
app.callback(invoke_without_command=True)(root)


def main() -> None:
    """Run the command line of this process; the console script `swarm`."""
    typer.main.get_command(app).main()


if __name__ == "__main__":
    main()
