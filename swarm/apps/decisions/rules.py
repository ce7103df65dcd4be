"""What a decision is while it is open, what it came to, and the rules in between (PROTOCOL section 5).

Integers only: every device, whatever its processor, must compute the same outcome from the same ordered ballots.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Annotated, Final, Literal

import msgspec

from swarm.apps.application import Rejected
from swarm.apps.decisions.margin import majority_margin, median_margin
from swarm.crypto.digest import sha256
from swarm.primitives.ids import DeviceId
from swarm.primitives.limits import (
    DEADLINE_MS_MAX,
    DECISION_ELIGIBLE_MAX,
    DECISION_OPTIONS_MAX,
    DECISION_SCALE_MAX,
)
from swarm.wire.codec import I64, U63, Bytes32, Name

OutcomeKind = Literal["option", "number", "undecided"]

Options = Annotated[tuple[Name, ...], msgspec.Meta(max_length=DECISION_OPTIONS_MAX)]
Scale = Annotated[int, msgspec.Meta(ge=0, le=DECISION_SCALE_MAX)]
DeadlineMs = Annotated[int, msgspec.Meta(ge=1, le=DEADLINE_MS_MAX)]
Count = Annotated[int, msgspec.Meta(ge=0, le=DECISION_ELIGIBLE_MAX)]
Eligible = Annotated[tuple[Name, ...], msgspec.Meta(max_length=DECISION_ELIGIBLE_MAX)]
Reason = Annotated[str, msgspec.Meta(max_length=200)]
Ballots = Annotated[tuple[tuple[Name, I64 | None], ...], msgspec.Meta(max_length=DECISION_ELIGIBLE_MAX)]
"""(device, ballot) in log order: the index of an option or an integer in units of 10^-scale; None abstained."""


class DecisionView(msgspec.Struct, array_like=True, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """An open decision as everybody sees it at one position of the log."""

    id: Bytes32
    """`decision_id` of the command that opened it."""
    subject: Name
    rule: Name
    options: Options
    """Names to choose from; empty when the decision is about a number."""
    scale: Scale
    """Decimal places of a number; ballots are integers in units of 10^-scale. 0 for options."""
    eligible: Eligible
    """Who may ballot, sorted; fixed at the opening."""
    minimum: Count
    """Ballots without which the outcome is `undecided`; abstentions are not ballots."""
    deadline_ms: DeadlineMs
    opened_height: U63
    opened_by: Name
    ballots: Ballots

    def ballot_of(self, device: DeviceId) -> tuple[int | None] | None:
        """Return `(ballot,)` when `device` has balloted or abstained, `(None,)` for the latter; else None."""
        for who, ballot in self.ballots:
            if who == device:
                return (ballot,)
        return None

    def is_open_for(self, device: DeviceId) -> bool:
        """Answer whether `device` may still ballot."""
        return device in self.eligible and self.ballot_of(device) is None


class Outcome(msgspec.Struct, array_like=True, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """How a decision ended; `undecided` with its reason is an outcome too. This is what a proof proves."""

    decision: Bytes32
    subject: Name
    rule: Name
    kind: OutcomeKind
    value: I64 | None
    """Index of the option, or the number in units of 10^-scale; None when undecided."""
    reason: Reason
    """Why it is undecided; empty otherwise."""
    ballots: Ballots
    margin: Count | None
    """How many of the counted ballots may be lies without turning it (`margin.py`); None when undecided."""
    options: Options
    scale: Scale
    eligible: Count
    """How many were eligible."""
    opened_height: U63
    opened_by: Name
    closed_height: U63

    @property
    def counted(self) -> int:
        """Ballots that counted: all but the abstentions."""
        return sum(ballot is not None for _, ballot in self.ballots)

    def value_in_words(self) -> str:
        """Return the value for people: `open`, `21.35`, or `undecided`."""
        if self.value is None:
            return "undecided"
        return ballot_in_words(self.value, self.options, self.scale)

    def in_words(self) -> str:
        """Say in one sentence what was decided, by how many, and how many lies it stands."""
        who = f"{self.counted} of {self.eligible} eligible balloted"
        if self.kind == "undecided":
            return f"{self.subject} is undecided by {self.rule}: {self.reason}; {who}"
        if self.margin:
            liars = f"{self.margin} of the {self.counted} may be lies without turning it"
        else:
            liars = "one lie could have turned it"
        return f"{self.subject} = {self.value_in_words()} by {self.rule}; {who}; {liars}"


def decision_id(submission: bytes, command: int) -> bytes:
    """Return the id of the decision that command `command` of submission `submission` (32 bytes) opens.

    SHA-256(submission id | command index as u16, big-endian): PROTOCOL section 5. The id is known to whoever made
    the submission before it is on the log.
    """
    return sha256(submission, command.to_bytes(2, "big"))


def ballot_in_words(ballot: int, options: Sequence[str], scale: int) -> str:
    """Return a ballot for people: the option's name, or the number with its decimal places."""
    if options:
        return options[ballot] if 0 <= ballot < len(options) else f"option {ballot}"
    if scale == 0:
        return str(ballot)
    whole, part = divmod(abs(ballot), 10**scale)
    return f"{'-' if ballot < 0 else ''}{whole}.{part:0{scale}d}"


# ------------------------------------------------------------------------------------------ rules


class Result(msgspec.Struct, frozen=True):
    """What a rule makes of the counted ballots: a value with its margin, or the reason why there is none."""

    value: int | None
    margin: int | None
    reason: str


def _majority(ballots: Sequence[int], options: int) -> Result:
    counts = [0] * options
    for ballot in ballots:
        counts[ballot] += 1
    best = max(range(options), key=lambda option: (counts[option], -option))
    if 2 * counts[best] > len(ballots):
        return Result(best, majority_margin(counts[best], len(ballots)), "")
    if counts.count(counts[best]) > 1:
        return Result(
            None, None, f"tie: {counts.count(counts[best])} options with {counts[best]} ballots each"
        )
    return Result(None, None, f"no majority: the first option has {counts[best]} of {len(ballots)} ballots")


def _median(ballots: Sequence[int], _options: int) -> Result:
    return Result(sorted(ballots)[(len(ballots) - 1) // 2], median_margin(len(ballots)), "")


Rule = Callable[[Sequence[int], int], Result]
"""Takes at least one counted ballot and the number of options (0 for numbers)."""

OPTIONS_MIN: Final = 2
"""Of one option nothing can be decided."""

OPTION_RULES: Final[Mapping[str, Rule]] = MappingProxyType({"majority": _majority})
NUMBER_RULES: Final[Mapping[str, Rule]] = MappingProxyType({"median": _median})
PLANNED_RULES: Final = ("supermajority", "plurality", "approval", "unanimity", "trimmed-mean")
"""Named in PROTOCOL section 5; recognised, so that the refusal says the truth."""


def check_rule(rule: str, *, options: int) -> None:
    """Raise `Rejected` unless `rule` is one that works for `options` options (0 = a number)."""
    fitting, other = (OPTION_RULES, NUMBER_RULES) if options else (NUMBER_RULES, OPTION_RULES)
    if rule in fitting:
        return
    if rule in PLANNED_RULES:
        raise Rejected(f"rule {rule} is not supported yet")
    if rule in other:
        raise Rejected(f"rule {rule} is for {'numbers' if options else 'options'}")
    raise Rejected(f"unknown rule {rule}")


def check_question(rule: str, *, options: Sequence[str], scale: int) -> None:
    """Raise `Rejected` unless a decision with this rule, these option names and this scale can be asked."""
    if options:
        if len(options) < OPTIONS_MIN:
            raise Rejected(f"a decision has at least {OPTIONS_MIN} options")
        if len(set(options)) != len(options):
            raise Rejected("an option is listed twice")
        if scale:
            raise Rejected("a decision has options or a scale, not both")
    check_rule(rule, options=len(options))


def default_minimum(eligible: int) -> int:
    """Return the fewest ballots that are not `too few` when the opening does not say: half, rounded up."""
    return (eligible + 1) // 2


def decide(view: DecisionView, closed_height: int) -> Outcome:
    """Return the outcome of `view` with the ballots it holds, closed by a command at `closed_height`."""
    counted = [ballot for _, ballot in view.ballots if ballot is not None]
    if len(counted) < max(view.minimum, 1):
        result = Result(None, None, f"too few ballots: {len(counted)} of at least {max(view.minimum, 1)}")
    else:
        rules = OPTION_RULES if view.options else NUMBER_RULES
        result = rules[view.rule](counted, len(view.options))
    kind: OutcomeKind = "undecided" if result.value is None else "option" if view.options else "number"
    return Outcome(
        decision=view.id,
        subject=view.subject,
        rule=view.rule,
        kind=kind,
        value=result.value,
        reason=result.reason,
        ballots=view.ballots,
        margin=result.margin,
        options=view.options,
        scale=view.scale,
        eligible=len(view.eligible),
        opened_height=view.opened_height,
        opened_by=view.opened_by,
        closed_height=closed_height,
    )
