"""What a light client gives its caller: proved entries and outcomes, members' claims, and errors that say why not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from swarm.apps.decisions.rules import Outcome
from swarm.apps.verify import Entry
from swarm.primitives.errors import SwarmError
from swarm.primitives.ids import DeviceId, short
from swarm.primitives.quorum import Budget
from swarm.wire.messages import AnswerStatus

# ------------------------------------------------------------------------------------------ what was proved


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """A submission that is final, and the proof that says so to anybody (`swarm.verify_proof`)."""

    position: int
    """Where its leaf stands in the log."""
    height: int
    """Height of the checkpoint that proves it; the entry stands at this height or below."""
    entry: Entry
    proof: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class DecidedOutcome:
    """How a decision ended, with the proof of it; `outcome` holds ballots, margin and heights."""

    outcome: Outcome
    position: int
    height: int
    """Height of the checkpoint that proves it; the decision closed at `outcome.closed_height`."""
    proof: bytes
    ballot_counted: bool | None = None
    """Whether the client's own ballot is among those of the outcome; None when it cast none."""

    @property
    def value(self) -> int | None:
        """Index of the option, or the number in units of 10^-scale; None when undecided."""
        return self.outcome.value

    def in_words(self) -> str:
        """Say in one sentence what was decided, by how many, and how many lies it stands."""
        return self.outcome.in_words()


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedEntries:
    """Consecutive entries of the log, all under one attested root."""

    position: int
    entries: tuple[Entry | Outcome, ...]
    log_size: int
    """Leaves of the log at the checkpoint; there may be more by now."""
    height: int

    @property
    def end(self) -> int:
        """Position after the last of these entries."""
        return self.position + len(self.entries)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProvedEntry:
    """One entry of the log with its proof."""

    position: int
    height: int
    entry: Entry | Outcome
    proof: bytes


# ------------------------------------------------------------------------------------------ what was claimed


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberStatus:
    """What one voter says about itself; nobody vouches for it."""

    device: DeviceId
    claim: AnswerStatus | None
    """None when it did not answer in time."""

    def in_words(self) -> str:
        """Say it as what it is: the device's own claim."""
        if self.claim is None:
            return f"{self.device}: no answer"
        c = self.claim
        return (
            f"{self.device} claims: view {c.view}, height {c.height}, {c.log_size} log entries,"
            f" {c.pending} pending, hears {len(c.peers)}"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class SwarmStatus:
    """Every voter's own claim, in the order of genesis."""

    swarm: str
    budget: Budget
    members: tuple[MemberStatus, ...]

    @property
    def voters_up(self) -> int:
        """How many voters answered."""
        return sum(member.claim is not None for member in self.members)

    @property
    def reliable_height(self) -> int | None:
        """Return a height that the log has reached for sure, None when too few voters answered.

        r+1 voters claim as much or more, so an honest one does.
        """
        heights = sorted((m.claim.height for m in self.members if m.claim is not None), reverse=True)
        return heights[self.budget.r] if len(heights) > self.budget.r else None

    @property
    def has_quorum(self) -> bool:
        """Whether as many voters answered as are needed to make anything final."""
        return self.voters_up >= self.budget.q


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """A step on the way: `signed` (id known, durable, sent), `logged` (proved at a position)."""

    step: str
    id: bytes
    """Id of the submission, or of the decision that it opens (32 bytes)."""
    position: int | None = None


# ------------------------------------------------------------------------------------------ errors


class ClientError(SwarmError):
    """What was asked for did not come about; the message says why in one sentence."""


class NotProvedError(ClientError):
    """The time-out came before the proof. The submission may still become final: it is sent again at the next start."""


class BusyError(ClientError):
    """Too many requests are waiting already; wait for some of them."""


class SubmissionRejectedError(ClientError):
    """The submission is in the log, and the application refused its command: a proved event with a reason."""

    def __init__(self, reason: str, *, submission: bytes, position: int) -> None:
        """Keep the application's reason and where the refusal stands."""
        self.reason = reason
        self.submission = submission
        self.position = position
        super().__init__(f"{self.what} {short(submission)} was rejected: {reason}")

    what: ClassVar[str] = "submission"


class DecisionRejectedError(SubmissionRejectedError):
    """The opening is in the log, and `decisions` refused it: there is no such decision."""

    what: ClassVar[str] = "decision"


class SupersededError(ClientError):
    """Another submission with this sequence number stands in the log, so this one never counts. Submit again."""

    def __init__(self, submission: bytes, *, other: bytes, position: int) -> None:
        """Name the submission that took the number, and where it stands."""
        self.submission = submission
        self.other = other
        self.position = position
        super().__init__(
            f"submission {short(submission)} is superseded: {short(other)} at position {position} has its sequence"
            " number; somebody else uses this operator's key, or an old copy of its state"
        )


class ExpiredError(ClientError):
    """The log has passed the expiry height without the submission; it will never count. Submit again."""

    def __init__(self, submission: bytes, *, expiry: int, height: int) -> None:
        """Keep the heights."""
        self.submission = submission
        self.expiry = expiry
        super().__init__(
            f"submission {short(submission)} expired: the log is at height {height} without it, past {expiry}"
        )
