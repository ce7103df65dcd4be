"""The application `rollout@1`: entries on the log become stages, permits and verdicts, the same on every device."""

from __future__ import annotations

from typing import ClassVar, Final

from swarm.apps.application import BlockContext, Context, Event, Rejected
from swarm.apps.rollout import gate, releases
from swarm.apps.rollout.duties import Duties, duties_of
from swarm.apps.rollout.entries import (
    Activate,
    Approve,
    Arm,
    ChangeKeys,
    Command,
    Consent,
    Go,
    Halt,
    Late,
    MakePlan,
    Propose,
    Ready,
    Report,
    Resume,
    Revoke,
    Rollback,
    decode_command,
)
from swarm.apps.rollout.keys import KeySet
from swarm.apps.rollout.permit import apply_arm
from swarm.apps.rollout.report import apply_report, convict_device, recover_device
from swarm.apps.rollout.risk import allows_voters, at_risk
from swarm.apps.rollout.rollback import apply_rollback
from swarm.apps.rollout.state import Here, Plan, Release, State, begin_epoch
from swarm.apps.rollout.status import status_of
from swarm.primitives.errors import DecodeError
from swarm.primitives.ids import ZERO_DIGEST, DeviceId
from swarm.primitives.limits import SNAPSHOT_BYTES_MAX
from swarm.wire.codec import Codec, encode
from swarm.wire.genesis import Genesis

_STATE: Final[Codec[State]] = Codec(State, bytes_max=SNAPSHOT_BYTES_MAX)
_NO_KEYS: Final = KeySet(0, 0, ())


class Rollout:
    """Approves, stages, permits, freezes and takes back firmware. See `swarm.apps.application.Application`.

    A command without an effect makes no event and raises nothing: on a log with liars and late entries that is
    everyday. `Rejected` is for what could never have had an effect: bytes that are no command, a manifest or a plan
    that cannot be, a swarm without release keys.
    """

    name: ClassVar[str] = "rollout"
    version: ClassVar[int] = 1

    def __init__(self) -> None:
        """Start without keys; `begin_swarm` brings those of genesis."""
        self.state = State(_NO_KEYS)
        self._swarm = ZERO_DIGEST
        self._block = BlockContext(height=0, hash=ZERO_DIGEST, epoch=0, voters=(), observers=(), r=0)

    # -------------------------------------------------------------------------------------- the log

    def begin_swarm(self, genesis: Genesis) -> None:
        """Take the swarm's id, its first voters and its first release keys; without keys firmware is refused."""
        self._swarm = genesis.id
        self._block = BlockContext(
            height=0,
            hash=ZERO_DIGEST,
            epoch=0,
            voters=genesis.voter_ids,
            observers=tuple(member.id for member in genesis.observers),
            r=genesis.budget.r,
        )
        if genesis.release is not None:
            self.state.keys = KeySet(0, genesis.release.k, genesis.release.keys)

    def begin_block(self, block: BlockContext) -> None:
        """Let votes of an ended epoch die, and give a plan its draw: the header hash of the block after its first go."""
        self._block = block
        begin_epoch(self.state, block.epoch)
        for plan in self.state.plans.values():
            if plan.first_go and not plan.seed and block.height > plan.first_go:
                plan.seed = block.hash

    def apply(self, context: Context, body: bytes) -> tuple[Event, ...]:
        """Apply one command of `entries`; raises `Rejected` before any change."""
        if self.state.keys.k == 0:
            raise Rejected("this swarm has no release keys")
        try:
            command = decode_command(body)
        except DecodeError as error:
            raise Rejected(f"not a command of rollout@1: {error.reason}") from None
        here = Here(self.state, context, self._swarm)
        if here.is_voter or here.is_operator or isinstance(command, Report | Arm | Ready):
            _apply(here, command)
        return tuple(here.events)

    def on_recovered(self, context: Context, device: DeviceId, incarnation: int) -> tuple[Event, ...]:
        """Note a recovery record of `device` (R12) where it is applied; the caller logs the events.

        Arguments: the position as for a command; the incarnation that the record raised the device to.
        """
        here = Here(self.state, context, self._swarm)
        recover_device(here, device, incarnation)
        return tuple(here.events)

    def on_convicted(self, context: Context, device: DeviceId) -> tuple[Event, ...]:
        """Note that evidence on the log convicts `device`, where it is applied; the caller logs the events."""
        here = Here(self.state, context, self._swarm)
        convict_device(here, device)
        return tuple(here.events)

    # -------------------------------------------------------------------------------------- reading

    def duties(self, device: DeviceId) -> Duties:
        """Return what `device` is asked to do at the applied height."""
        return duties_of(self._here(), device)

    def at_risk(self, voters: tuple[DeviceId, ...] | None = None) -> tuple[DeviceId, ...]:
        """Return the voters in force (or those given) that are at risk (W2)."""
        return at_risk(self.state, self._block.voters if voters is None else voters)

    def allows_voters(self, voters: tuple[DeviceId, ...], u: int) -> bool:
        """Answer whether a change of the epoch to `voters` with `u` is safe for what is being rolled out (W15)."""
        return allows_voters(self.state, voters, u)

    def release(self, id: bytes) -> Release | None:
        """Return the release with this id (32 bytes), or None; do not change it."""
        return self.state.releases.get(id)

    def plan(self, id: bytes) -> Plan | None:
        """Return the plan with this id (32 bytes), or None; do not change it."""
        return self.state.plans.get(id)

    def revoked_digests(self, class_id: bytes) -> tuple[bytes, ...]:
        """Return the image digests of a class that must not be started while another image can be (W12)."""
        return tuple(
            release.manifest.image_digest
            for release in self.state.releases.values()
            if release.state == "revoked" and release.manifest.class_id == class_id
        )

    def query(self, question: bytes) -> bytes:
        """Answer b"" with the canonical `Status`, the id of a plan or a release with its record or nil."""
        if not question:
            return encode(status_of(self._here()))
        return encode(self.state.plans.get(question) or self.state.releases.get(question))

    def _here(self) -> Here:
        block = self._block
        context = Context(
            height=block.height,
            epoch=self.state.epoch,
            submission=ZERO_DIGEST,
            command=0,
            origin="",
            role="",
            voters=block.voters,
            observers=block.observers,
            r=block.r,
        )
        return Here(self.state, context, self._swarm)

    # -------------------------------------------------------------------------------------- snapshot

    def snapshot(self) -> bytes:
        """Return the whole state in its one canonical encoding."""
        return encode(self.state)

    def restore(self, state: bytes) -> None:
        """Replace the state by that of a snapshot; raises `DecodeError` and changes nothing for other bytes."""
        self.state = _STATE.decode(state)


def _apply(here: Here, command: Command) -> None:
    match command:
        case Propose():
            releases.apply_propose(here, command)
        case Approve():
            releases.apply_approve(here, command)
        case ChangeKeys():
            releases.apply_change_keys(here, command)
        case MakePlan():
            releases.apply_plan(here, command)
        case Go():
            gate.apply_go(here, command)
        case Ready():
            gate.apply_ready(here, command)
        case Arm():
            apply_arm(here, command)
        case Report():
            apply_report(here, command)
        case Late():
            gate.apply_late(here, command)
        case Halt():
            gate.apply_halt(here, command)
        case Resume():
            gate.apply_resume(here, command)
        case Rollback():
            apply_rollback(here, command)
        case Revoke():
            releases.apply_revoke(here, command)
        case Consent():
            releases.apply_consent(here, command)
        case Activate():
            releases.apply_activate(here, command)
