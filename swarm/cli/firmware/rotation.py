"""`swarm firmware keys`: who may sign releases now, and how that is changed (FIRMWARE section 2).

A change is a small file that goes from holder to holder, like a release: k' of the new keys must sign it, and k of the
old ones. With fewer old signatures it is an emergency, which no voter approves by itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
import typer

from swarm.apps.rollout.entries import ChangeKeys
from swarm.apps.rollout.keys import KeySet, Rotation, judge_rotation, rotation_id, sign_rotation
from swarm.apps.rollout.manifest import Signatures, sorted_signatures
from swarm.apps.rollout.state import State
from swarm.cli.boundary import CommandFailed
from swarm.cli.files import JsonOption, read_file, words_beside, write_json
from swarm.cli.firmware.first import read_threshold
from swarm.cli.firmware.keys import read_public_key
from swarm.cli.firmware.release_file import write_whole
from swarm.cli.firmware.session import Session, WaitOption, count_of, run_session, say
from swarm.cli.light import AsOption, read_timeout_s
from swarm.cli.logs import LogLevel, tell
from swarm.crypto.keys import KeyPair
from swarm.primitives.errors import ConfigError, DecodeError
from swarm.wire.codec import Bytes32, Codec, encode
from swarm.wire.genesis import key_id

MAGIC: Final = b"swkeys/1"
SUFFIX: Final = ".swkeys"
_BYTES_MAX: Final = 4096


class _Body(msgspec.Struct, array_like=True, forbid_unknown_fields=True, frozen=True):
    swarm: Bytes32
    keys: KeySet
    signatures: Signatures


_BODY: Final[Codec[_Body]] = Codec(_Body, bytes_max=_BYTES_MAX)


@dataclass(frozen=True, slots=True, kw_only=True)
class RotationFile:
    """A change of the release keys of one swarm, with the signatures so far."""

    swarm: bytes
    keys: KeySet
    signatures: tuple[tuple[bytes, bytes], ...] = ()

    def signed(self, keypair: KeyPair) -> RotationFile:
        """Return it with one more signature; one of the same key is replaced."""
        name, signature = sign_rotation(keypair, self.swarm, self.keys)
        kept = {**dict(self.signatures), name: signature}
        return RotationFile(swarm=self.swarm, keys=self.keys, signatures=sorted_signatures(kept.items()))

    def encode(self) -> bytes:
        """Return the bytes of the file."""
        return MAGIC + encode(_Body(self.swarm, self.keys, self.signatures))


def load_rotation(path: Path) -> RotationFile:
    """Return the change in a file; raises `ConfigError` with a reason for anything else."""
    data = read_file(path, _BYTES_MAX + len(MAGIC))
    try:
        if not data.startswith(MAGIC):
            raise DecodeError("bad-magic", f"not a {SUFFIX} file")
        body = _BODY.decode(data[len(MAGIC) :])
    except DecodeError as error:
        raise ConfigError(f"no change of release keys: {error}", where=str(path)) from None
    return RotationFile(swarm=body.swarm, keys=body.keys, signatures=body.signatures)


def save_rotation(rotation: RotationFile, path: Path) -> None:
    """Write the file whole or not at all. Raises `ConfigError`."""
    write_whole(path, rotation.encode())


def describe_rotation(rotation: RotationFile) -> list[str]:
    """Return the lines that say what a holder signs."""
    keys = rotation.keys
    where = f"swarm {rotation.swarm[:4].hex()}"
    return [
        f"change of release keys in {where} to key epoch {keys.epoch}: {keys.k} of {len(keys.keys)} sign",
        *(f"  {key_id(key).hex()}  {key.hex()}" for key in keys.keys),
        f"signed by {', '.join(name.hex() for name, _ in rotation.signatures) or 'nobody'}",
    ]


# ------------------------------------------------------------------------------------------ the command


def keys(
    *,
    as_: AsOption,
    change: Annotated[
        str | None,
        typer.Option("--change", metavar="K/N", help="Begin a change: K of N new keys shall sign."),
    ] = None,
    key: Annotated[
        list[str] | None,
        typer.Option("--key", metavar="PUB", help="A new key: its .pub file or 64 hex digits."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar=f"FILE{SUFFIX}", help="Where the change goes, to be signed."),
    ] = None,
    propose: Annotated[
        Path | None, typer.Option("--propose", metavar=f"FILE{SUFFIX}", help="Log a signed change, and wait.")
    ] = None,
    timeout: WaitOption = "60s",
    json: JsonOption = None,
) -> None:
    """Print the release keys in force. With --change begin another set; with --propose ask the voters for it.

    The file of a change is signed with `swarm firmware sign` by its holders, old and new ones.
    """
    timeout_s = read_timeout_s(timeout)
    new = _read_change(change, key or [], out)
    if propose is not None and new is not None:
        raise ConfigError("goes alone", where="--propose")

    async def work(session: Session) -> None:
        if new is not None and out is not None:
            k, public = new
            keyset = KeySet(session.state.keys.epoch + 1, k, public)
            rotation = RotationFile(swarm=session.genesis.id, keys=keyset)
            save_rotation(rotation, out)
            for line in describe_rotation(rotation):
                say(line)
            say(
                f"written to {out}; now `swarm firmware sign {out} --key KEY` by {k} of the new holders and by"
            )
            say(f"{session.state.keys.k} of the old ones, then `swarm firmware keys --propose {out}`")
            return
        if propose is not None:
            await _propose(session, load_rotation(propose), propose, timeout_s)
        print("\n".join(describe_keys(session)), file=words_beside(json))
        if json is not None:
            write_json(report_keys(session.state), json)

    run_session(as_, work)


def _read_change(
    change: str | None, texts: list[str], out: Path | None
) -> tuple[int, tuple[bytes, ...]] | None:
    if change is None:
        if texts or out is not None:
            raise ConfigError("is missing", where="--change", hint="such as --change 2/3")
        return None
    k, n = read_threshold(change, "--change")
    public = tuple(sorted({read_public_key(text, "--key") for text in texts}))
    if len(public) != n:
        raise ConfigError(f"{n} different keys are needed, {len(public)} given", where="--key")
    if out is None or out.suffix != SUFFIX:
        raise ConfigError(f"a change of keys goes into a file that ends in {SUFFIX}", where="--out")
    if out.exists():
        raise ConfigError("exists already", where=str(out))
    return k, public


async def _propose(session: Session, rotation: RotationFile, path: Path, timeout_s: float) -> None:
    judged = check_rotation(session, rotation, path)
    if judged.emergency:
        tell(
            "warning: too few of the old keys signed it; as an emergency it needs a second operator that asks for the same,"
            " and voters whose policy is not `auto`",
            LogLevel.WARNING,
        )
    keyset, state = rotation.keys, session.state
    id = rotation_id(session.genesis.id, keyset)

    def waiting() -> str:
        backers = [member for member, wanted in state.backing.items() if wanted == id]
        return f"the change is approved by {count_of(backers, session.genesis)}"

    await session.ask(
        ChangeKeys(keyset.k, keyset.keys, rotation.signatures),
        is_done=lambda: state.keys.epoch >= keyset.epoch,
        waiting=waiting,
        timeout_s=timeout_s,
    )
    if state.keys != keyset:
        raise CommandFailed("another change of keys came first")


def check_rotation(session: Session, rotation: RotationFile, path: Path) -> Rotation:
    """Return how the log would judge a change; raises `ConfigError` for what it would ignore."""
    state, where = session.state, str(path)
    if rotation.swarm != session.genesis.id:
        raise ConfigError("is a change of another swarm's keys", where=where)
    if rotation.keys.epoch != state.keys.epoch + 1:
        raise ConfigError(
            f"leads to key epoch {rotation.keys.epoch}, the log is at {state.keys.epoch}",
            where=where,
            hint="begin it anew with --change",
        )
    judged = judge_rotation(session.genesis.id, state.keys, rotation.keys, rotation.signatures)
    if judged is None:
        raise ConfigError(
            f"not signed by {rotation.keys.k} of the new keys",
            where=where,
            hint=f"swarm firmware sign {path}",
        )
    return judged


def describe_keys(session: Session) -> list[str]:
    """Return the lines about the keys in force and the changes that wait."""
    state = session.state
    lines = [f"key epoch {state.keys.epoch}: {state.keys.k} of these {len(state.keys.keys)} sign a release"]
    lines += [f"  {key_id(key).hex()}  {key.hex()}" for key in state.keys.keys]
    for id, rotation in state.rotations.items():
        backers = [member for member, wanted in state.backing.items() if wanted == id]
        emergency = ", an emergency" if rotation.emergency else ""
        count = f"{rotation.keys.k} of {len(rotation.keys.keys)} keys"
        lines.append(f"asked for{emergency}: {count}, approved by {count_of(backers, session.genesis)}")
    return lines


def report_keys(state: State) -> dict[str, Any]:
    """Return what `--json` writes."""
    return {
        "k": state.keys.k,
        "epoch": state.keys.epoch,
        "keys": [key.hex() for key in state.keys.keys],
        "waiting": [
            {
                "id": id.hex(),
                "k": rotation.keys.k,
                "keys": [key.hex() for key in rotation.keys.keys],
                "emergency": rotation.emergency,
                "backers": [member for member, wanted in state.backing.items() if wanted == id],
            }
            for id, rotation in state.rotations.items()
        ],
    }
