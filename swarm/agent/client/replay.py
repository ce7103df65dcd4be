"""The log replayed by a light client: what its blocks mean, computed here and believed of nobody.

The same `Ledger` as on a device applies verified blocks in memory. So the state of an application, a rollout say, is
known as a device knows it, at the price of reading the log once.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from swarm.agent.client.connect import Client
from swarm.agent.client.results import ClientError
from swarm.agent.own_apps import import_apps
from swarm.apps.rollout.app import Rollout
from swarm.apps.rollout.events import RolloutEvent, decode_event
from swarm.apps.router import Factory, Refusal, Router, read_body, state_root
from swarm.crypto.digest import DIGEST_BYTES, sha256
from swarm.crypto.merkle import Frontier
from swarm.device.ledger import Ledger
from swarm.primitives.errors import ConfigError, DecodeError, ProofError, check
from swarm.primitives.limits import SNAPSHOT_BYTES_MAX
from swarm.primitives.version import VERSION
from swarm.storage.store import Batch, StoredBlock
from swarm.wire.codec import U63, Bytes32, Codec, encode
from swarm.wire.genesis import Genesis
from swarm.wire.leaves import decode_leaf
from swarm.wire.sequence import Sequences, Verdict
from swarm.wire.statements import genesis_header, header_hash

POLL_S: Final = 1.0
"""How long one voter is given to send new blocks before the next is asked."""

STALL_S: Final = 10.0
"""Without a block for so long although r+1 voters claim more, reading has failed."""

LISTEN_EVERY_S: Final = 5.0
"""How often all voters are asked whether they are there, so that a missing quorum is noticed and said."""

_ROLLOUT: Final = Rollout.name


@dataclass(frozen=True, slots=True)
class Logged:
    """One event of `rollout` and where it stands."""

    position: int
    height: int
    submission: bytes
    event: RolloutEvent


class Replay:
    """Applications at one height of the log; `absorb` goes on."""

    def __init__(self, genesis: Genesis, extra: Mapping[str, Factory] | None = None) -> None:
        """Start at the genesis block. Raises `ConfigError` for applications that this program does not have."""
        self.genesis = genesis
        self._ledger = Ledger(genesis, Router(genesis.apps, extra))
        self.tip = header_hash(genesis_header(genesis.id))
        self.roots: dict[int, bytes] = {0: self.log_root}
        """The log's root by height: which heads there ever were."""

    @property
    def height(self) -> int:
        """Height of the last applied block."""
        return self._ledger.height

    @property
    def log_size(self) -> int:
        """Leaves of the log there."""
        return self._ledger.frontier.size

    @property
    def log_root(self) -> bytes:
        """Root of the log there, which voters attest."""
        return self._ledger.frontier.root()

    @property
    def rollout(self) -> Rollout:
        """The application that knows about firmware; the caller has checked that genesis names it."""
        app = self._ledger.router.rollout
        check(app is not None, "genesis names no rollout")
        return app if app is not None else Rollout()

    def absorb(self, blocks: tuple[StoredBlock, ...]) -> tuple[Logged, ...]:
        """Apply verified blocks that follow the tip; return what they made of firmware."""
        logged: list[Logged] = []
        for block in blocks:
            check(block.header.parent == self.tip, "a block that does not follow the tip")
            counts = counts_of(block, self._ledger.sequences)
            batch = Batch()
            self._ledger.apply(StoredBlock(block.hash, block.header, block.submissions, counts), batch)
            self.tip = block.hash
            self.roots[self.height] = self.log_root
            for leaf in batch.leaves:
                event = decode_leaf(leaf.data).event
                if event is None or event.app != _ROLLOUT:
                    continue
                content = read_body(event.body)
                if not isinstance(content, Refusal):
                    made = decode_event(content)
                    logged.append(Logged(leaf.position, leaf.height, event.submission, made))
        return tuple(logged)

    # ------------------------------------------------------------------------------ keeping it

    def save(self) -> bytes:
        """Return the state at this height, for `load` of the same program and swarm; not what `roots` holds."""
        ledger = self._ledger
        return encode(
            _Kept(
                program=VERSION,
                swarm=self.genesis.id,
                height=self.height,
                tip=self.tip,
                log_size=ledger.frontier.size,
                frontier=ledger.frontier.hashes,
                state=ledger.router.snapshot(ledger.sequences),
            )
        )

    def load(self, data: bytes) -> None:
        """Go on from what `save` returned; a fresh replay only. Raises `DecodeError`: then throw this one away."""
        kept = _KEPT.decode(data)
        if (kept.program, kept.swarm) != (VERSION, self.genesis.id):
            raise DecodeError("other-program", "kept by another program or for another swarm")
        ledger = self._ledger
        ledger.sequences = ledger.router.restore(kept.state)
        ledger.state_root = state_root(kept.state)
        try:
            ledger.frontier = Frontier(kept.log_size, kept.frontier)
        except ProofError as error:
            raise DecodeError("malformed", str(error)) from None
        ledger.height = kept.height
        self.tip = kept.tip
        self.roots = {kept.height: self.log_root}


class _Kept(msgspec.Struct, array_like=True, forbid_unknown_fields=True, frozen=True, kw_only=True):
    program: str
    swarm: Bytes32
    height: U63
    tip: Bytes32
    log_size: U63
    frontier: tuple[Bytes32, ...]
    state: bytes


_KEPT: Final[Codec[_Kept]] = Codec(_Kept, bytes_max=SNAPSHOT_BYTES_MAX + 4096)


def counts_of(block: StoredBlock, sequences: Sequences) -> tuple[bool, ...]:
    """Return which submissions of a block count, as the core of every device finds (PROTOCOL section 2)."""
    ahead = sequences.copy()
    height = block.header.height
    return tuple(ahead.apply(item.body, height) is Verdict.COUNTS for item in block.submissions)


def kept_replay(client: Client) -> Replay:
    """Return a replay at the height where an earlier one was kept (`keep_replay`), at the genesis block without.

    What is kept is this operator's own reckoning, believed like its key and its state beside it. Raises `ConfigError`.
    """
    replay = new_replay(client)
    try:
        data = _kept_path(client).read_bytes()
        if sha256(data[DIGEST_BYTES:]) != data[:DIGEST_BYTES]:
            return replay
        replay.load(data[DIGEST_BYTES:])
    except FileNotFoundError:
        return replay
    except (OSError, DecodeError):
        # Damaged, or of another version: the log itself is read again.
        return new_replay(client)
    return replay


def keep_replay(client: Client, replay: Replay) -> None:
    """Keep the state for the next start; a disk that cannot take it costs time then, and nothing now."""
    path = _kept_path(client)
    draft = path.with_name(f".{path.name}.new")
    data = replay.save()
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
        with os.fdopen(os.open(draft, flags, 0o600), "wb") as file:
            file.write(sha256(data) + data)
        draft.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            draft.unlink()


def _kept_path(client: Client) -> Path:
    return client.operator.state.with_suffix(".replay")


def new_replay(client: Client) -> Replay:
    """Return a replay at the genesis block, with the own applications of the operator's file. Raises `ConfigError`."""
    operator = client.operator
    try:
        return Replay(client.genesis, import_apps(operator.apps, client.genesis, operator.source))
    except ConfigError as error:
        if error.where != "apps":
            raise
        raise ConfigError(
            error.message,
            where=operator.source,
            hint="add `apps: {NAME: module:Class}`, as in the agents' files",
        ) from None


async def read_log(
    client: Client, replay: Replay, on_progress: Callable[[int, int], None] = lambda _height, _target: None
) -> tuple[Logged, ...]:
    """Bring `replay` to a height that the log has reached for sure, and return the events on the way.

    `on_progress(height, target)` is told how far it is. Raises `ClientError` when too few voters answer to know how
    long the log is, or when nobody sends it.
    """
    status = await client.status()
    target = status.reliable_height
    if target is None:
        few = f"{status.voters_up} voters answer, {status.budget.r + 1} must to say how long the log is"
        raise ClientError(client.trouble() or few)
    return await _read_to(client, replay, target, on_progress)


async def _read_to(
    client: Client, replay: Replay, target: int, on_progress: Callable[[int, int], None]
) -> tuple[Logged, ...]:
    logged: list[Logged] = []
    while replay.height < target:
        on_progress(replay.height, target)
        blocks = await client.blocks(replay.height + 1, replay.tip, wait=STALL_S)
        if not blocks:
            raise ClientError(f"nobody sends block {replay.height + 1} of the log, which is {target} long")
        logged.extend(replay.absorb(blocks))
    on_progress(replay.height, target)
    return tuple(logged)


async def follow_log(client: Client, replay: Replay) -> AsyncGenerator[tuple[Logged, ...], None]:
    """Yield the events of each batch of new blocks, an empty one when nothing came for a second; never ends."""
    clock = asyncio.get_running_loop().time
    asked_s = clock()
    while True:
        yield replay.absorb(await client.blocks(replay.height + 1, replay.tip, wait=POLL_S))
        if clock() - asked_s >= LISTEN_EVERY_S:
            # Blocks are nobody's answer, and without new ones nobody answers: who is there, only a question tells.
            await client.status(timeout=POLL_S)
            asked_s = clock()
