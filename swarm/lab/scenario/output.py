"""The folder of a run: `result.json`, `genesis.json`, `proofs/`, `trace/` (CONTRACTS, `swarm run --out`)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from swarm.apps.decisions.rules import Outcome
from swarm.lab.scenario.result import Result
from swarm.primitives.errors import ConfigError
from swarm.wire.genesis import Genesis


class OutputFolder:
    """Where a run leaves its files; nothing is created before the scenario is known to be good."""

    def __init__(self, path: Path) -> None:
        """Use `path`, which is made with its parents if need be; raises `ConfigError` when that cannot be."""
        self.path = path
        try:
            for part in ("proofs", "trace"):
                (path / part).mkdir(parents=True, exist_ok=True)
            # What an earlier run left would lie beside another swarm's genesis.
            for old in [path / "result.json", path / "genesis.json", *(path / "proofs").glob("*.proof")]:
                old.unlink(missing_ok=True)
        except OSError as error:
            raise ConfigError(f"cannot be written: {error.strerror}", where=str(path)) from None
        self._trace = (path / "trace" / "events.jsonl").open("w", encoding="utf-8")

    def trace(self, event: Mapping[str, Any]) -> None:
        """Append one event to `trace/events.jsonl`."""
        self._trace.write(json.dumps(event, sort_keys=True) + "\n")

    def write_genesis(self, genesis: Genesis) -> None:
        """Write `genesis.json`, which is all that `swarm verify` needs beside a proof."""
        self._write("genesis.json", genesis.to_json().encode())

    def write_proof(self, name: str, proof: bytes) -> str:
        """Write a proof file; returns its name below the folder."""
        relative = f"proofs/{name}.proof"
        self._write(relative, proof)
        return relative

    def finish(self, result: Result) -> None:
        """Write `result.json`, last: a folder with it is complete."""
        self._trace.close()
        self._write("result.json", result.to_json().encode())

    def close(self) -> None:
        """Close the trace of a run that did not get to its end."""
        self._trace.close()

    def _write(self, relative: str, data: bytes) -> None:
        try:
            (self.path / relative).write_bytes(data)
        except OSError as error:
            raise ConfigError(
                f"cannot be written: {error.strerror}", where=str(self.path / relative)
            ) from None


def name_proofs(outcomes: Iterable[Outcome]) -> dict[bytes, str]:
    """Return `<subject>-<n>` for each outcome in the order of closing, by decision id; n counts per subject from 1."""
    counts: dict[str, int] = {}
    names: dict[bytes, str] = {}
    for outcome in outcomes:
        counts[outcome.subject] = counts.get(outcome.subject, 0) + 1
        names[outcome.decision] = f"{outcome.subject}-{counts[outcome.subject]}"
    return names
