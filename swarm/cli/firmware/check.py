"""`swarm firmware verify`: what a release file or a proof proves, checked offline with the genesis file alone."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from swarm.apps.rollout.app import Rollout
from swarm.apps.rollout.events import decode_event
from swarm.apps.verify import Entry, read_verified
from swarm.cli.files import JsonOption, load_genesis, read_file, words_beside, write_json
from swarm.cli.firmware.keys import signature_line
from swarm.cli.firmware.pack import report_release
from swarm.cli.firmware.release_file import IMAGE_BYTES_MAX, MAGIC, parse_release
from swarm.cli.firmware.words import describe_event, describe_manifest
from swarm.cli.verify import describe_proof, report_proof
from swarm.primitives.errors import DecodeError, ProofError
from swarm.wire.genesis import Genesis
from swarm.wire.proof import verify as verify_leaf


def verify(
    file: Annotated[
        Path,
        typer.Argument(metavar="FILE", show_default=False, help="A release (.swfw) or a proof (.proof)."),
    ],
    *,
    genesis: Annotated[Path, typer.Option("--genesis", show_default=False, help="The swarm's genesis file.")],
    json: JsonOption = None,
) -> None:
    """Check a release or a proof offline and say in words what it proves.

    Exit code 1, with the reason, for a file that must not be believed.
    """
    members = load_genesis(genesis)
    data = read_file(file, IMAGE_BYTES_MAX)
    try:
        lines, result = (
            _judge_release(data, members) if data.startswith(MAGIC) else _judge_proof(data, members)
        )
    except (DecodeError, ProofError) as error:
        if json is not None:
            write_json({"verified": False, "reason": str(error)}, json)
        raise ProofError(f"{file}: proves nothing: {error}") from None
    print("\n".join(lines), file=words_beside(json))
    if json is not None:
        write_json({"verified": True, **result}, json)


def _judge_release(data: bytes, genesis: Genesis) -> tuple[list[str], dict[str, object]]:
    release = parse_release(data, genesis.id)
    if genesis.release is None:
        raise ProofError(f"swarm {genesis.swarm} has no release keys")
    have = release.signed_by(genesis.release.keys)
    if have < genesis.release.k:
        raise ProofError(
            f"{have} keys of genesis signed it, {genesis.release.k} must; where the keys were changed since, only the"
            " log knows: `swarm firmware status`"
        )
    lines = [
        f"GOOD for swarm {genesis.swarm} ({genesis.id[:4].hex()}): image and manifest fit, byte for byte",
        *describe_manifest(release.manifest),
        signature_line(release, genesis),
        "Whether a quorum approved it, or revoked it, only the log says: `swarm firmware status`.",
    ]
    return lines, report_release(release)


def _judge_proof(data: bytes, genesis: Genesis) -> tuple[list[str], dict[str, object]]:
    leaf = verify_leaf(data, genesis)
    content = read_verified(leaf, genesis)
    lines = describe_proof(leaf, content, genesis)
    result = report_proof(leaf, content, genesis)
    if isinstance(content, Entry) and content.app == Rollout.name and content.kind == "event":
        try:
            words = describe_event(decode_event(content.body))
        except DecodeError as error:
            raise ProofError(f"the entry is proved, but this program cannot read it: {error}") from None
        lines.insert(2, f"    {words}")
        result["firmware"] = words
    return lines, result
