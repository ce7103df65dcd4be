"""`swarm store check` and `swarm store repair`: the integrity of a device's store, agent stopped."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Final

import typer

from swarm.cli.boundary import EXIT_DONE, EXIT_FAILED
from swarm.cli.files import JsonOption, load_genesis, words_beside, write_json
from swarm.cli.logs import printable
from swarm.primitives.errors import ConfigError
from swarm.storage.check import StoreReport, check_store, repair_store
from swarm.wire.genesis import Genesis

FileArgument = Annotated[
    Path, typer.Argument(metavar="FILE", show_default=False, help="The store, for example dev-0.sqlite.")
]


GenesisOption = Annotated[
    Path | None,
    typer.Option(
        "--genesis", help="Genesis of the swarm; else genesis.json beside the store, if it is there."
    ),
]

_GENESIS_NAME: Final = "genesis.json"


def check(file: FileArgument, *, genesis: GenesisOption = None, json: JsonOption = None) -> int:
    """Say what is wrong with a store; its agent must be stopped. Nothing in it is changed.

    With the genesis of its swarm the signatures of the other voters are checked too.

    Exit code 1 if anything is wrong, 2 if there is no such store or an agent holds it.
    """
    report = check_store(file, _genesis_of(file, genesis))
    print("\n".join(describe_report(report)), file=words_beside(json))
    if json is not None:
        write_json(report_store(report), json)
    return EXIT_DONE if report.ok else EXIT_FAILED


def repair(file: FileArgument, *, genesis: GenesisOption = None, json: JsonOption = None) -> int:
    """Restore what follows from the rest of a store, and keep its original. Statements that are lost stay lost.

    Exit code 1 if something is wrong afterwards, 2 if this store cannot be repaired.
    """
    repaired = repair_store(file, _genesis_of(file, genesis))
    lines = [*repaired.done] or ["nothing to repair"]
    if repaired.kept:
        lines.append(f"kept what it was before: {', '.join(str(path) for path in repaired.kept)}")
    print("\n".join([*lines, *describe_report(repaired.after)]), file=words_beside(json))
    if json is not None:
        kept = [str(path) for path in repaired.kept]
        write_json({"done": list(repaired.done), "kept": kept, "after": report_store(repaired.after)}, json)
    return EXIT_DONE if repaired.after.ok else EXIT_FAILED


def _genesis_of(store: Path, named: Path | None) -> Genesis | None:
    """Return the genesis that was asked for, else the one beside the store; None where that is missing or spoilt."""
    if named is not None:
        return load_genesis(named)
    try:
        return load_genesis(store.with_name(_GENESIS_NAME))
    except (ConfigError, ValueError):
        return None


def describe_report(report: StoreReport) -> list[str]:
    """Return the lines that say what a check saw."""
    device = f" of {report.device}" if report.device else ""
    held = report.statements
    seen = f"height {report.height}, {report.log_size} log entries, {held} own statements"
    lines = [f"{report.path}: {f'store{device}: {seen}' if device else 'this store cannot be read'}"]
    lines += [
        f"  {finding.part}: {printable(finding.text)}{' (can be repaired)' if finding.is_repairable else ''}"
        for finding in report.findings
    ]
    if report.ok:
        lines.append(f"  nothing is wrong{'' if report.has_genesis else _UNSIGNED}")
    elif report.is_gone:
        lines.append(
            "  It may have forgotten statements of this device, so the device must not vote with it."
        )
    elif all(finding.is_repairable for finding in report.findings):
        lines.append(f"  To mend it: swarm store repair {report.path}")
    else:
        lines.append(
            "  Not all of it can be repaired: check the disk; never bring back an older copy of the store."
        )
    return lines


_UNSIGNED: Final = "; signatures of other voters were not checked: name the swarm's file with --genesis"


def report_store(report: StoreReport) -> dict[str, Any]:
    """Return what `--json` writes about a store."""
    return {
        "path": str(report.path),
        "ok": report.ok,
        "device": report.device,
        "statements": report.statements,
        "height": report.height,
        "log_size": report.log_size,
        "is_gone": report.is_gone,
        "has_genesis": report.has_genesis,
        "findings": [
            {"part": finding.part, "text": finding.text, "is_repairable": finding.is_repairable}
            for finding in report.findings
        ],
    }
