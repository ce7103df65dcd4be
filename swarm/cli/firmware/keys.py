"""`swarm firmware keygen`, and what every command does with release keys."""

from __future__ import annotations

import re
import secrets
from pathlib import Path
from typing import Annotated, Final

import typer

from swarm.agent.keyfile import read_key_file
from swarm.cli.files import JsonOption, read_file, words_beside, write_json
from swarm.cli.firmware.first import KEY_SUFFIX, write_key_pair
from swarm.cli.firmware.release_file import ReleaseFile
from swarm.crypto.keys import SEED_BYTES, KeyPair
from swarm.crypto.signing import is_canonical_key
from swarm.primitives.errors import ConfigError
from swarm.wire.genesis import Genesis, key_id

_HEX_KEY: Final = re.compile(r"[0-9a-f]{64}")


def keygen(
    path: Annotated[
        Path, typer.Argument(metavar="FILE.key", show_default=False, help="A file that does not exist yet.")
    ],
    *,
    json: JsonOption = None,
) -> None:
    """Make a release key and the public half beside it. The key never has to leave the machine it is made on."""
    if path.suffix != KEY_SUFFIX:
        raise ConfigError(f"a key file ends in {KEY_SUFFIX}", where=str(path))
    if not path.absolute().parent.is_dir():
        raise ConfigError(f"there is no folder {path.parent}", where=str(path), hint="make it first")
    keypair = KeyPair(secrets.token_bytes(SEED_BYTES))
    public = write_key_pair(path, keypair)
    out = words_beside(json)
    print(f"{path}: the key; for you alone", file=out)
    print(f"{public}: its public half, {keypair.public.hex()}", file=out)
    print(f"key id {key_id(keypair.public).hex()}", file=out)
    if json is not None:
        write_json({"public": keypair.public.hex(), "key_id": key_id(keypair.public).hex()}, json)


def load_keys(paths: list[Path]) -> list[KeyPair]:
    """Return the key pairs in key files, each once. Raises `ConfigError`."""
    keypairs: dict[bytes, KeyPair] = {}
    for path in paths:
        keypair = KeyPair(read_key_file(path))
        keypairs[keypair.public] = keypair
    return list(keypairs.values())


def check_release_keys(genesis: Genesis, keypairs: list[KeyPair]) -> None:
    """Raise `ConfigError` for a key that signs nothing in this swarm, as far as genesis says."""
    if genesis.release is None:
        raise ConfigError(
            f"swarm {genesis.swarm} has no release keys", hint="make one with `swarm init --firmware K/N`"
        )
    for keypair in keypairs:
        if keypair.public not in genesis.release.keys:
            raise ConfigError(
                f"key {key_id(keypair.public).hex()} is no release key of genesis",
                where="--key",
                hint="after a change of keys leave --genesis out",
            )


def read_public_key(text: str, where: str) -> bytes:
    """Return the public key in 64 hex digits or in a `.pub` file; raises `ConfigError`."""
    content = text
    if _HEX_KEY.fullmatch(text) is None:
        content = read_file(Path(text), 256).decode("ascii", "replace").strip()
    if _HEX_KEY.fullmatch(content) is None:
        raise ConfigError(f"{text} holds no public key", where=where, hint="64 hex digits, or a .pub file")
    public = bytes.fromhex(content)
    if not is_canonical_key(public):
        raise ConfigError(f"{text} is no usable Ed25519 public key", where=where)
    return public


def signature_line(release: ReleaseFile, genesis: Genesis | None) -> str:
    """Return by whom a release is signed, and what is still missing as far as genesis says."""
    names = ", ".join(name.hex() for name, _ in release.signatures) or "nobody"
    if genesis is None or genesis.release is None:
        return f"signed by {names}"
    have, keys = release.signed_by(genesis.release.keys), genesis.release
    missing = max(0, keys.k - have)
    more = f"; {missing} more must sign" if missing else "; enough to propose it"
    return f"signed by {names}: {have} of the {keys.k} that the swarm asks for{more}"
