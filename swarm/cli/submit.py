"""`swarm submit`: put bytes on the log, as a note of the operator."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from swarm.agent.client.connect import Client
from swarm.agent.client.results import Receipt
from swarm.cli.files import STDOUT, JsonOption, read_file, words_beside, write_json
from swarm.cli.light import (
    AsOption,
    ProofOption,
    TimeoutOption,
    check_proof_target,
    read_timeout_s,
    report_content,
    run_client,
    write_proof,
)
from swarm.primitives.errors import ConfigError
from swarm.primitives.limits import COMMAND_BYTES_MAX


def submit(
    text: Annotated[
        str | None, typer.Argument(metavar="TEXT", show_default=False, help="What to put on the log.")
    ] = None,
    *,
    as_: AsOption,
    file: Annotated[
        Path | None, typer.Option("--file", metavar="FILE", help="Its bytes instead of TEXT; - is stdin.")
    ] = None,
    timeout: TimeoutOption = "60s",
    proof: ProofOption = None,
    json: JsonOption = None,
) -> None:
    """Put one note on the log and print where it stands, once that is final and proved."""
    if (text is None) == (file is None):
        raise ConfigError("give either TEXT or --file", where="submit")
    body = text.encode("utf-8", "surrogateescape") if text is not None else _read(file)
    if len(body) > COMMAND_BYTES_MAX:
        raise ConfigError(f"a note has at most {COMMAND_BYTES_MAX} bytes", where=str(file or "TEXT"))
    if not body:
        raise ConfigError("a note has at least one byte", where=str(file or "TEXT"))
    timeout_s = read_timeout_s(timeout)
    check_proof_target(proof)

    async def work(client: Client) -> Receipt:
        return await client.submit(body, timeout=timeout_s)

    receipt = run_client(as_, work)
    out = words_beside(json)
    print(
        f"entry {receipt.position} of the log, proved at height {receipt.height}: {receipt.entry.in_words()}",
        file=out,
    )
    if proof is not None:
        write_proof(receipt.proof, proof)
        print(f"proof written to {proof}", file=out)
    if json is not None:
        write_json(
            {
                **report_content(receipt.entry),
                "position": receipt.position,
                "height": receipt.height,
                "proof": receipt.proof.hex(),
            },
            json,
        )


def _read(file: Path | None) -> bytes:
    if file is None or str(file) == STDOUT:
        return sys.stdin.buffer.read(COMMAND_BYTES_MAX + 1)
    return read_file(file, COMMAND_BYTES_MAX)
