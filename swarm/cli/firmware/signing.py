"""`swarm firmware sign`: the holder of a release key adds a signature to a file, wherever that is, offline."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from swarm.apps.rollout.manifest import sign_release
from swarm.cli.files import JsonOption, load_genesis, read_file, words_beside, write_json
from swarm.cli.firmware.keys import check_release_keys, load_keys, signature_line
from swarm.cli.firmware.release_file import load_release, save_release
from swarm.cli.firmware.rotation import MAGIC as ROTATION_MAGIC
from swarm.cli.firmware.rotation import describe_rotation, load_rotation, save_rotation
from swarm.cli.firmware.words import describe_manifest
from swarm.crypto.keys import KeyPair
from swarm.primitives.errors import ConfigError
from swarm.wire.genesis import Genesis


def sign(
    path: Annotated[
        Path,
        typer.Argument(
            metavar="FILE", show_default=False, help="A release (.swfw) or a change of keys (.swkeys)."
        ),
    ],
    *,
    key: Annotated[list[Path], typer.Option("--key", show_default=False, help="A release key; repeatable.")],
    genesis: Annotated[
        Path | None, typer.Option("--genesis", show_default=False, help="The swarm's genesis file.")
    ] = None,
    json: JsonOption = None,
) -> None:
    """Check a file and add a signature to it. Read what is printed: it is what you vouch for."""
    members = None if genesis is None else load_genesis(genesis)
    keypairs = load_keys(key)
    if read_file(path, len(ROTATION_MAGIC)).startswith(ROTATION_MAGIC):
        lines, names = _sign_rotation(path, keypairs, members)
    else:
        lines, names = _sign_release(path, keypairs, members)
    print("\n".join(lines), file=words_beside(json))
    if json is not None:
        write_json({"signed_by": [name.hex() for name in names]}, json)


def _sign_release(
    path: Path, keypairs: list[KeyPair], genesis: Genesis | None
) -> tuple[list[str], list[bytes]]:
    release = load_release(path, None if genesis is None else genesis.id)
    if genesis is not None:
        check_release_keys(genesis, keypairs)
    for keypair in keypairs:
        release = release.with_signature(sign_release(keypair, release.id))
    save_release(release, path, replace=True)
    lines = [*describe_manifest(release.manifest), signature_line(release, genesis)]
    return lines, [name for name, _ in release.signatures]


def _sign_rotation(
    path: Path, keypairs: list[KeyPair], genesis: Genesis | None
) -> tuple[list[str], list[bytes]]:
    rotation = load_rotation(path)
    if genesis is not None and rotation.swarm != genesis.id:
        raise ConfigError("is a change of another swarm's keys", where=str(path))
    for keypair in keypairs:
        rotation = rotation.signed(keypair)
    save_rotation(rotation, path)
    return describe_rotation(rotation), [name for name, _ in rotation.signatures]
