"""What the firmware side of a device sees of everything else at one turn."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from swarm.apps.rollout.app import Rollout
from swarm.apps.rollout.state import Device as Record
from swarm.consensus.state import State
from swarm.device.ledger import Ledger
from swarm.primitives.ids import DeviceId
from swarm.storage.store import Store
from swarm.wire.genesis import Genesis
from swarm.wire.statements import attest_digest


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """Read-only; `height` and `log_root()` are those of the log that this device has applied itself."""

    now_ms: int
    genesis: Genesis
    me: DeviceId
    rollout: Rollout
    height: int
    log_root: Callable[[], bytes]
    digests: Callable[[int], bytes | None]
    """Attestation digest of the own result at a height, None where it is not remembered."""
    attests: Callable[[], Mapping[int, Mapping[int, bytes]]]
    """Verified attestations of others: voter index -> height -> digest."""
    checkpoint_height: int
    peers_heard: Mapping[DeviceId, int]
    """When the last verified word of a member came, monotonic ms."""
    leaf: Callable[[int], bytes | None]
    """A durable leaf of the log by its position."""
    has_voted: bool
    """This device signed a statement in this boot."""

    @property
    def record(self) -> Record | None:
        """What the log knows of this device, None before its first report."""
        return self.rollout.state.devices.get(self.me)

    @property
    def is_voter(self) -> bool:
        """Whether this device votes."""
        return self.me in self.genesis.voter_ids


def view_of(
    genesis: Genesis,
    me: DeviceId,
    rollout: Rollout,
    ledger: Ledger,
    core: State,
    store: Store,
    attests: Mapping[int, Mapping[int, bytes]],
    *,
    peers_heard: Mapping[DeviceId, int],
    has_voted: bool,
    now_ms: int,
) -> View:
    """Return the view of this turn; `attests` are those heard beside the core's (see `Keeper.attests`)."""

    def digest_at(height: int) -> bytes | None:
        own = core.applied.get(height)
        return None if own is None else attest_digest(own.log_size, own.log_root, own.state_root)

    return View(
        now_ms=now_ms,
        genesis=genesis,
        me=me,
        rollout=rollout,
        height=ledger.height,
        log_root=ledger.frontier.root,
        digests=digest_at,
        attests=lambda: _merged(core, attests),
        checkpoint_height=core.checkpoint_height,
        peers_heard=peers_heard,
        leaf=store.leaf,
        has_voted=has_voted,
    )


def _merged(core: State, heard: Mapping[int, Mapping[int, bytes]]) -> dict[int, dict[int, bytes]]:
    """Return the core's attestations and those that came after their checkpoint, in the order of the voters."""
    merged: dict[int, dict[int, bytes]] = {}
    for voter in sorted({*core.attests, *heard}):
        slots = core.attests.get(voter, {})
        merged[voter] = {height: statement.digest for height, statement in slots.items()}
        for height, digest in heard.get(voter, {}).items():
            merged[voter].setdefault(height, digest)
    return merged
