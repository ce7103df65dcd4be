"""The one function that runs a turn's actions and returns inputs: the agent and the simulator share it."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Context, Decimal
from typing import Final, SupportsIndex

from swarm.apps.decisions.rules import DecisionView
from swarm.behaviours.actions import Action, AskBallot, BallotReady, SelfTest, SelfTested, TellOutcome
from swarm.behaviours.behaviour import HealthChecked
from swarm.behaviours.loader import Behaviours, LoadedBehaviour
from swarm.primitives.ids import short
from swarm.primitives.limits import NUMBER_MAX

_EXACT: Final = Context(prec=400, rounding=ROUND_HALF_EVEN)
"""Every finite float in plain digits: 309 before the point, and more after it than any scale keeps."""

SELF_TEST_FAILED: Final = "self-test"
"""The reason code of a behaviour that says in words why it is not well."""

SELF_TEST_RAISED: Final = "self-test-raised"

_CODE: Final = re.compile(r"[a-z0-9-]{1,32}")


@dataclass(frozen=True, slots=True, kw_only=True)
class BehaviourFault:
    """A behaviour raised or returned nonsense: for the log and the screen; the device abstained and went on."""

    kind: str
    subject: str
    message: str


@dataclass(frozen=True, slots=True)
class ActionResults:
    """What running the actions of a turn gave: inputs of the next turn, and what went wrong on the way."""

    ballots: tuple[BallotReady, ...]
    faults: tuple[BehaviourFault, ...]
    tests: tuple[SelfTested, ...] = ()


def run_actions(behaviours: Behaviours, actions: Iterable[Action], now_ms: int) -> ActionResults:
    """Run `actions` in order and return a ballot for every `AskBallot`.

    A decision is put to the behaviours that answer its subject, in the order of the file; the first that does not
    return None gives the ballot. If none does, the device abstains at once (PROTOCOL section 5). All of them are told
    an outcome. A behaviour that raises, or returns what cannot be a ballot, is a fault and counts as None. Never
    raises; actions are idempotent, so running them again after a crash does no harm.
    """
    ballots: list[BallotReady] = []
    faults: list[BehaviourFault] = []
    tests: list[SelfTested] = []
    for action in actions:
        match action:
            case AskBallot(decision):
                ballots.append(BallotReady(decision.id, _ask(behaviours, decision, now_ms, faults)))
            case TellOutcome(outcome):
                for loaded in behaviours.for_subject(outcome.subject):
                    try:
                        loaded.behaviour.on_outcome(outcome, now_ms)
                    except Exception as error:  # noqa: BLE001  -- a plug-in may raise anything; the device goes on
                        faults.append(
                            _fault(loaded, outcome.subject, f"on_outcome of {short(outcome.decision)}", error)
                        )
            case SelfTest(tag):
                tests.append(_test(behaviours, tag, now_ms, faults))
    return ActionResults(tuple(ballots), tuple(faults), tuple(tests))


def _test(behaviours: Behaviours, tag: int, now_ms: int, faults: list[BehaviourFault]) -> SelfTested:
    """Ask every behaviour that can say so whether it is well; the first that is not gives the reason."""
    for loaded in behaviours.loaded:
        if not isinstance(loaded.behaviour, HealthChecked):
            continue
        try:
            answer: object = loaded.behaviour.check_health(now_ms)
        except Exception as error:  # noqa: BLE001  -- a plug-in may raise anything; then it is not well
            fault = _fault(loaded, loaded.subject or "", "check_health", error)
            faults.append(fault)
            return SelfTested(tag, SELF_TEST_RAISED, fault.message)
        if answer is not None:
            code = answer if isinstance(answer, str) and _CODE.fullmatch(answer) else SELF_TEST_FAILED
            return SelfTested(tag, code, f"{loaded.kind}: {answer}"[:500])
    return SelfTested(tag, "")


def _ask(
    behaviours: Behaviours, decision: DecisionView, now_ms: int, faults: list[BehaviourFault]
) -> int | None:
    for loaded in behaviours.for_subject(decision.subject):
        try:
            answer: object = loaded.behaviour.on_open(decision, now_ms)
            ballot = None if answer is None else ballot_from(answer, decision)
        except Exception as error:  # noqa: BLE001  -- a plug-in may raise anything; the device abstains and goes on
            faults.append(_fault(loaded, decision.subject, f"on_open of {short(decision.id)}", error))
            continue
        if ballot is not None:
            return ballot
    return None


def ballot_from(answer: object, decision: DecisionView) -> int:
    """Return the ballot that a behaviour's `answer` means: the index of an option, or an integer of 10^-scale.

    A float in plain units is rounded half to even on its shortest decimal form, which is what a person reads:
    21.005 with two places is 21.00. Raises `ValueError` or `TypeError` in words for anything that is no ballot of `decision`.
    """
    if decision.options:
        if isinstance(answer, str) and answer in decision.options:
            return decision.options.index(answer)
        raise ValueError(f"returned {answer!r}, which is none of the options {', '.join(decision.options)}")
    if isinstance(answer, float):
        if not math.isfinite(answer):
            raise ValueError(f"returned {answer!r}, which is no finite number")
        # float() first: a number of numpy is a float with another repr.
        plain = Decimal(repr(float(answer)))
        ballot = int(plain.scaleb(decision.scale, _EXACT).to_integral_value(context=_EXACT))
    elif isinstance(answer, SupportsIndex) and not isinstance(answer, bool):
        ballot = operator.index(answer)
    else:
        raise TypeError(f"returned {answer!r}, which is no number")
    if abs(ballot) > NUMBER_MAX:
        raise ValueError(f"returned {answer!r}, which is too large with {decision.scale} decimal places")
    return ballot


def _fault(loaded: LoadedBehaviour, subject: str, what: str, error: Exception) -> BehaviourFault:
    return BehaviourFault(
        kind=loaded.kind, subject=subject, message=f"{what}: {type(error).__name__}: {error}"[:500]
    )
