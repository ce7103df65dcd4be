"""`swarm firmware rollout`, `halt`, `resume`, `rollback`, `abandon` and `consent`: plans on the log."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Final

import typer

from swarm.apps.application import Rejected
from swarm.apps.rollout.entries import Consent, Go, Halt, MakePlan, Resume, Rollback
from swarm.apps.rollout.spec import Kind, PlanSpec, Step, settle_spec, warnings_of
from swarm.apps.rollout.state import Plan, Release
from swarm.cli.boundary import CommandFailed
from swarm.cli.decide import split_names
from swarm.cli.firmware.follow import WAYS_ON, follow_plan
from swarm.cli.firmware.manifests import read_class
from swarm.cli.firmware.release_file import load_release
from swarm.cli.firmware.releases import ReasonOption, check_reason
from swarm.cli.firmware.serving import RateOption, file_of, holders_of, read_rate, serve
from swarm.cli.firmware.session import (
    PlanArgument,
    Session,
    WaitOption,
    brake_of,
    count_of,
    run_session,
    say,
)
from swarm.cli.firmware.words import describe_spec
from swarm.cli.light import AsOption, read_timeout_s
from swarm.cli.logs import LogLevel, tell
from swarm.primitives.errors import ConfigError
from swarm.primitives.ids import short
from swarm.primitives.limits import (
    DURATION_MS_MAX,
    MEMBERS_MAX,
    PLAN_ATTEMPTS_MAX,
    PLAN_RETRIES_MAX,
    PLAN_STEPS_MAX,
    VOTERS_MAX,
)
from swarm.primitives.quorum import Budget
from swarm.primitives.settings import parse_duration_ms

_KINDS: Final[tuple[Kind, ...]] = ("voters", "observers")
_STEP_HINT: Final = "voters=1, observers=10 or observers=25%"
_RUNNING: Final = ("planned", "active")

StepOption = Annotated[
    list[str] | None,
    typer.Option(
        "--step", metavar="KIND=COUNT|SHARE%", help=f"Who comes next, such as {_STEP_HINT}; repeat in order."
    ),
]
SoakOption = Annotated[str, typer.Option("--soak", help="How long each voter watches after a stage.")]
DeadlineOption = Annotated[str, typer.Option("--deadline", help="How long a stage may take.")]
TrialOption = Annotated[str, typer.Option("--trial", help="How long a new image may take to become healthy.")]
AttemptsOption = Annotated[
    int, typer.Option("--attempts", min=1, max=PLAN_ATTEMPTS_MAX, help="Starts of a new image in its trial.")
]
MaxFailOption = Annotated[
    int, typer.Option("--max-fail", min=0, max=MEMBERS_MAX, help="Failed observers that a stage forgives.")
]
MinConfirmedOption = Annotated[
    int, typer.Option("--min-confirmed", min=0, max=MEMBERS_MAX, help="Confirmed members that a stage needs.")
]
PauseOption = Annotated[
    list[int] | None,
    typer.Option(
        "--pause-after", min=1, max=PLAN_STEPS_MAX, help="Wait for `resume` after this step (from 1)."
    ),
]
BarrierOption = Annotated[
    bool, typer.Option("--barrier", help="No member of a stage starts before all of them hold the image.")
]
HoldBackOption = Annotated[
    int | None,
    typer.Option(
        "--hold-back",
        min=0,
        max=VOTERS_MAX,
        show_default="a quorum",
        help="Voters that keep the old image to the end.",
    ),
]
ReserveOption = Annotated[
    int | None,
    typer.Option(
        "--reserve",
        min=0,
        max=VOTERS_MAX,
        show_default="1 if u >= 2",
        help="Failures left to chance while voters restart.",
    ),
]
RetriesOption = Annotated[
    int,
    typer.Option("--retries", min=0, max=PLAN_RETRIES_MAX, help="Replacements for members that were away."),
]


def rollout(
    release: Annotated[
        str,
        typer.Argument(
            metavar="RELEASE",
            show_default=False,
            help="Its number, the beginning of its id, or its .swfw file.",
        ),
    ],
    *,
    as_: AsOption,
    step: StepOption = None,
    soak: SoakOption = "60s",
    deadline: DeadlineOption = "15m",
    trial: TrialOption = "2m",
    attempts: AttemptsOption = 1,
    max_fail: MaxFailOption = 0,
    min_confirmed: MinConfirmedOption = 1,
    pause_after: PauseOption = None,
    barrier: BarrierOption = False,
    hold_back: HoldBackOption = None,
    reserve: ReserveOption = None,
    retries: RetriesOption = 2,
    rate: RateOption = None,
    detach: Annotated[bool, typer.Option("--detach", help="Only make the plan; do not watch it.")] = False,
    timeout: WaitOption = "60s",
) -> None:
    """Plan the rollout of an approved release, say what it cannot survive, and watch it stage by stage.

    RELEASE may be the file itself; then its image is served to the voters meanwhile, as `seed` does. Ctrl-C ends the watching, never the rollout. Exit code 1 when it froze, was given up or taken back.
    """
    timeout_s = read_timeout_s(timeout)
    bytes_per_s = read_rate(rate)
    if file_of(release) is not None and detach:
        raise ConfigError("with --detach nobody serves the file", where="--detach", hint="use its number")
    spec = PlanSpec(
        steps=read_steps(step or []),
        soak_ms=parse_duration_ms(soak, "--soak"),
        deadline_ms=_duration(deadline, "--deadline"),
        trial_ms=_duration(trial, "--trial"),
        attempts=attempts,
        max_fail=max_fail,
        min_confirmed=min_confirmed,
        pause_after=read_pauses(pause_after or [], step or []),
        barrier=barrier,
        hold_back=hold_back,
        reserve=reserve,
        retries=retries,
    )

    async def work(session: Session) -> None:
        plan = await _make_plan(session, release, spec, timeout_s, bytes_per_s)
        if detach:
            say(f"look at it: swarm firmware status --as {as_}")
        else:
            await follow_plan(session, plan, as_)

    run_session(as_, work)


async def _make_plan(
    session: Session, release: str, spec: PlanSpec, timeout_s: float, bytes_per_s: int | None
) -> Plan:
    """Check, warn, serve what was given as a file, and log the plan."""
    path, budget = file_of(release), session.genesis.budget
    served = None if path is None else load_release(path, session.genesis.id)
    found = session.find_release(release if served is None else served.id.hex())
    settled = checked_spec(spec, budget)
    check_plannable(session, found)
    for warning in warnings_of(spec, budget):
        tell(f"warning: {warning}", LogLevel.WARNING)
    if served is not None:
        serve(session, served, bytes_per_s)
    elif not holders_of(session, found.manifest):
        tell(
            "warning: no device holds the image yet; give the file itself, or run `swarm firmware seed` beside",
            LogLevel.WARNING,
        )
    id = await session.submit(MakePlan(found.id, spec), timeout_s)
    plan = session.replay.rollout.plan(id)
    if plan is None:
        raise CommandFailed(
            "the log took the plan as a no-op: too many plans wait or run already (`swarm firmware status`)"
        )
    say(f"plan {short(id)} for release {short(found.id)} (number {found.manifest.number})")
    say(f"  {describe_spec(settled)}")
    return plan


def checked_spec(spec: PlanSpec, budget: Budget) -> PlanSpec:
    """Return `spec` with its defaults; raises `ConfigError` for what every device would refuse."""
    try:
        return settle_spec(spec, budget)
    except Rejected as refusal:
        raise ConfigError(refusal.reason, where="plan") from None


def check_plannable(session: Session, release: Release) -> None:
    """Raise `CommandFailed` for a release that no plan could move."""
    name = f"release {short(release.id)}"
    if release.state != "approved":
        raise CommandFailed(
            f"{name} is {release.state}, not approved"
            + ("; first `swarm firmware approve`" if release.state == "proposed" else "")
        )
    if release.completed:
        raise CommandFailed(f"{name} is rolled out already; latecomers take it by themselves")
    if release.contradicted or release.suspended:
        raise CommandFailed(
            f"{name} stands still: {'contradicted' if release.contradicted else 'revocation asked for'}"
        )
    if not any(device.class_id == release.manifest.class_id for device in session.state.devices.values()):
        tell("warning: no device of this class has reported yet, so the plan will wait", LogLevel.WARNING)


def read_steps(texts: list[str], where: str = "--step") -> tuple[Step, ...]:
    """Return the steps in `voters=1`, `observers=25%`; raises `ConfigError`."""
    if len(texts) > PLAN_STEPS_MAX:
        raise ConfigError(f"more than {PLAN_STEPS_MAX} steps", where=where)
    steps = []
    for text in texts:
        kind, _, amount = text.partition("=")
        share = amount.endswith("%")
        number = amount.removesuffix("%")
        known = next((name for name in _KINDS if name == kind), None)
        if known is None or not number.isascii() or not number.isdigit() or len(number) > 4:
            raise ConfigError(f"{text!r} is no step", where=where, hint=_STEP_HINT)
        value = int(number)
        if not 1 <= value <= (100 if share else MEMBERS_MAX):
            raise ConfigError(f"{text!r} names nobody, or more than there can be", where=where)
        steps.append(Step(known, 0, value * 10) if share else Step(known, value, 0))
    return tuple(steps)


def read_pauses(numbers: list[int], steps: list[str], where: str = "--pause-after") -> tuple[int, ...]:
    """Return the steps (from 0) after which a plan waits, given from 1; raises `ConfigError`."""
    too_high = max(numbers, default=0)
    if too_high > len(steps):
        raise ConfigError(
            f"there is no step {too_high}, {len(steps)} given", where=where, hint="name the steps with --step"
        )
    return tuple(sorted({number - 1 for number in numbers}))


def _duration(text: str, where: str) -> int:
    duration_ms = parse_duration_ms(text, where)
    if not 1 <= duration_ms <= DURATION_MS_MAX:
        raise ConfigError("must be longer than zero", where=where)
    return duration_ms


# ------------------------------------------------------------------------------------------ wishes about a plan


def halt(
    plan: PlanArgument = None,
    *,
    as_: AsOption,
    class_: Annotated[
        str | None,
        typer.Option("--class", metavar="VENDOR/CLASS", help="Stop everything of this class instead."),
    ] = None,
    reason: ReasonOption = "halted by an operator",
    timeout: WaitOption = "60s",
) -> None:
    """Ask the voters to freeze a rollout: nobody else gets the new image, and nobody in trial keeps it."""
    timeout_s = read_timeout_s(timeout)
    check_reason(reason)
    if class_ is not None and plan is not None:
        raise ConfigError("give PLAN or --class, not both", where="--class")

    async def work(session: Session) -> None:
        if class_ is not None:
            await _halt_class(session, read_class(class_).id, reason, timeout_s)
            return
        found = session.find_plan(plan, states=_RUNNING)
        if found.state == "frozen":
            say(f"plan {short(found.id)} is frozen already, by {found.halted_by}")
            return
        _check_state(found, _RUNNING)
        await session.ask(
            Halt(found.id, of_class=False, reason=reason),
            is_done=lambda: found.state not in _RUNNING,
            waiting=lambda: (
                f"plan {short(found.id)} is halted by {len(found.halts)} of the {brake_of(session.genesis)} voters that"
                " are needed"
            ),
            timeout_s=timeout_s,
        )
        _tell_ways(found, as_)

    run_session(as_, work)


async def _halt_class(session: Session, class_id: bytes, reason: str, timeout_s: float) -> None:
    if not any(release.manifest.class_id == class_id for release in session.state.releases.values()):
        raise ConfigError("no release of this class is on the log", where="--class")
    if session.state.is_class_frozen(class_id):
        say("the class stands still already")
        return
    await session.ask(
        Halt(class_id, of_class=True, reason=reason),
        is_done=lambda: session.state.is_class_frozen(class_id),
        waiting=lambda: "the class does not stand still yet",
        timeout_s=timeout_s,
    )
    say("the class stands still; `swarm firmware resume PLAN` lets it go on")


def resume(
    plan: PlanArgument = None,
    *,
    as_: AsOption,
    without: Annotated[
        str,
        typer.Option("--without", metavar="IDS", help="Devices to leave out from now on; ids with commas."),
    ] = "",
    timeout: WaitOption = "60s",
) -> None:
    """Ask the voters to let a frozen rollout go on, without what failed; or answer the pause of a plan."""
    timeout_s = read_timeout_s(timeout)
    names = tuple(sorted(set(split_names(without, "--without"))))

    async def work(session: Session) -> None:
        found = session.find_plan(plan, states=("frozen", "active", "planned"))
        _check_devices(session, names, "--without")
        generation, stages = found.generation, len(found.stages)
        if found.state in _RUNNING and not session.state.is_class_frozen(found.class_id):
            if names:
                raise CommandFailed(
                    f"plan {short(found.id)} is {found.state}, not frozen: nobody can be left out"
                )
            if found.open_stage is not None or not found.spec.pause_after:
                raise CommandFailed(f"plan {short(found.id)} is {found.state} and waits for nobody")
            await session.ask(
                Go(found.id, stages, generation),
                is_done=lambda: len(found.stages) > stages or found.state not in _RUNNING,
                waiting=lambda: f"stage {stages} waits for {count_of(found.gos, session.genesis)}",
                timeout_s=timeout_s,
            )
            return
        await session.ask(
            Resume(found.id, generation, names),
            is_done=lambda: found.generation != generation,
            waiting=lambda: (
                f"plan {short(found.id)} is resumed by {count_of(list(found.resumes), session.genesis)}"
            ),
            timeout_s=timeout_s,
        )
        say(f"plan {short(found.id)} goes on; watch it: swarm firmware status --follow --as {as_}")

    run_session(as_, work)


def rollback(plan: PlanArgument = None, *, as_: AsOption, timeout: WaitOption = "60s") -> None:
    """Ask the voters to take an image back everywhere; whoever holds the old one asks for a permit to it."""
    _take_back(
        plan,
        as_,
        timeout,
        stop=False,
        states=("frozen", "active", "completed", "planned"),
        done=lambda found: f"the image of plan {short(found.id)} is taken back: {found.state}",
    )


def abandon(plan: PlanArgument = None, *, as_: AsOption, timeout: WaitOption = "60s") -> None:
    """Ask the voters to give a frozen rollout up: nothing moves any more, every device keeps what it runs."""
    _take_back(
        plan,
        as_,
        timeout,
        stop=True,
        states=("frozen",),
        done=lambda found: f"plan {short(found.id)} is given up; its class is free for another plan",
    )


def _take_back(
    plan: str | None,
    operator: AsOption,
    timeout: str,
    *,
    stop: bool,
    states: tuple[str, ...],
    done: Callable[[Plan], str],
) -> None:
    timeout_s = read_timeout_s(timeout)

    async def work(session: Session) -> None:
        found = session.find_plan(plan, states=states)
        _check_state(found, states)
        before = found.state
        await session.ask(
            Rollback(found.id, stop),
            is_done=lambda: found.state != before,
            waiting=lambda: (
                f"plan {short(found.id)} is {before}; asked for by"
                f" {count_of([voter for voter, wanted in found.rollbacks.items() if wanted == stop], session.genesis)}"
            ),
            timeout_s=timeout_s,
        )
        say(done(found))

    run_session(operator, work)


def consent(
    device: Annotated[
        str, typer.Argument(metavar="DEVICE", show_default=False, help="The voter that may restart.")
    ],
    *,
    as_: AsOption,
    plan: Annotated[str | None, typer.Option("--plan", help="Of which plan, where several run.")] = None,
    timeout: WaitOption = "60s",
) -> None:
    """Ask all other voters to let one voter restart although the budget allows nobody to be away."""
    timeout_s = read_timeout_s(timeout)

    async def work(session: Session) -> None:
        if session.genesis.voter_index(device) is None:
            raise ConfigError(
                f"{device!r} is no voter",
                where="DEVICE",
                hint=f"voters: {', '.join(session.genesis.voter_ids[:16])}",
            )
        found = session.find_plan(plan, states=_RUNNING)
        _check_state(found, _RUNNING)
        free = session.genesis.budget.u - (found.spec.reserve or 0)
        if free > 0:
            raise CommandFailed(f"plan {short(found.id)} needs no consent: {free} voters may be away at once")
        tell(
            f"warning: the log stops while {device} restarts, and for ever if it does not return",
            LogLevel.WARNING,
        )
        needed = session.genesis.budget.n - 1
        await session.ask(
            Consent(found.id, device),
            is_done=lambda: device in found.consented or _is_named(found, device),
            waiting=lambda: f"{len(found.consents.get(device, []))} of the {needed} other voters agree",
            timeout_s=timeout_s,
        )
        say(f"{device} may restart")

    run_session(as_, work)


def _is_named(plan: Plan, device: str) -> bool:
    return any(stage.kind == "consent" and device in stage.members for stage in plan.stages)


def _check_devices(session: Session, names: tuple[str, ...], where: str) -> None:
    for name in names:
        member = session.genesis.member(name)
        if member is None or member.role == "operator":
            raise ConfigError(f"{name!r} is no device of the swarm", where=where)


def _check_state(plan: Plan, states: tuple[str, ...]) -> None:
    if plan.state not in states:
        raise CommandFailed(f"plan {short(plan.id)} is {plan.state}, not {' or '.join(states)}")


def _tell_ways(plan: Plan, operator: AsOption) -> None:
    say(f"plan {short(plan.id)} is {plan.state}" + (f" by {plan.halted_by}" if plan.halted_by else ""))
    if plan.state == "frozen":
        say(f"{WAYS_ON}; each with --as {operator}")
