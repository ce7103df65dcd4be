"""The log replayed by a light client: what its blocks mean, computed here and believed of nobody.

The same `Ledger` as on a device applies verified blocks in memory. So the state of an application, a rollout say, is
known as a device knows it, at the price of reading the log once.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass
from typing import Final

from swarm.agent.client.connect import Client
from swarm.agent.client.results import ClientError
from swarm.agent.own_apps import import_apps
from swarm.apps.rollout.app import Rollout
from swarm.apps.rollout.events import RolloutEvent, decode_event
from swarm.apps.router import Factory, Refusal, Router, read_body
from swarm.device.ledger import Ledger
from swarm.primitives.errors import ConfigError, check
from swarm.storage.store import Batch, StoredBlock
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


def counts_of(block: StoredBlock, sequences: Sequences) -> tuple[bool, ...]:
    """Return which submissions of a block count, as the core of every device finds (PROTOCOL section 2)."""
    ahead = sequences.copy()
    height = block.header.height
    return tuple(ahead.apply(item.body, height) is Verdict.COUNTS for item in block.submissions)


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
