"""When a stage opens and closes, and what freezes, resumes, rolls back or ends a plan (W6, W7, W9 to W13).

Every function acts on the state at one position and returns nothing: what it did, its events say. A step needs a
quorum, a brake b voters. An entry that finds nothing to do is a no-op without an event.
"""

from __future__ import annotations

from swarm.apps.rollout.entries import Go, Halt, Late, Ready, Resume
from swarm.apps.rollout.events import (
    Closed,
    Completed,
    Deadline,
    Frozen,
    Opened,
    Resumed,
    class_key,
    plan_key,
    stage_key,
)
from swarm.apps.rollout.permit import is_frozen
from swarm.apps.rollout.plan import Draft, candidates, draft_stage, draw, ids
from swarm.apps.rollout.rollback import close_rollback
from swarm.apps.rollout.spec import Kind
from swarm.apps.rollout.state import ClassState, Here, Member, Plan, Stage, note
from swarm.primitives.ids import ZERO_DIGEST, DeviceId

# ------------------------------------------------------------------------------------------ opening


def waits_for_go(here: Here, plan: Plan) -> Draft | None:
    """Return the stage for which `plan` waits at this position, or None: open, frozen, ended, or not its turn (W6)."""
    release = here.state.releases[plan.release]
    if plan.state not in ("planned", "active") or is_frozen(here.state, plan) or not release.is_wanted:
        return None
    if plan.open_stage is not None:
        return None
    if not plan.started:
        active = here.state.active_plan(plan.class_id)
        if active is not None or release.completed:
            return None
    return draft_stage(here, plan)


def apply_go(here: Here, go: Go) -> None:
    """Count a go; the q-th opens the stage, once the draw is known.

    The draw comes from the block after the first go. Where all of them stand in one block, the next go of anybody
    that has voted opens it; `duties` asks for that.
    """
    plan = here.state.plans.get(go.plan)
    if plan is None or go.generation != plan.generation or go.stage != len(plan.stages):
        return
    draft = waits_for_go(here, plan)
    if draft is None or draft.blocked:
        return
    if here.is_operator:
        note(plan.asked_go, here.origin)
    if not here.is_voter:
        return
    if plan.first_go == 0:
        plan.first_go = here.height
    if here.vote(plan.gos) >= here.quorum and plan.seed:
        open_stage(here, plan, draft)


def open_stage(here: Here, plan: Plan, draft: Draft, only: DeviceId | None = None) -> None:
    """Open the drafted stage and draw its members; `only` is the one of a consent."""
    names: list[DeviceId] = []
    if only is not None:
        names = [only]
    elif draft.kind in ("voters", "observers"):
        kind: Kind = "voters" if draft.kind == "voters" else "observers"
        names = draw(plan, candidates(here, plan, kind), draft.size)
    stage = Stage(
        number=len(plan.stages),
        kind=draft.kind,
        generation=plan.generation,
        step=draft.step,
        opened_height=here.height,
        members={name: Member() for name in names},
    )
    plan.stages.append(stage)
    if not plan.started:
        # Those that wait behind it were judged in another situation.
        for other in here.state.plans_of(plan.class_id):
            other.gos, other.lates = [], []
    plan.started, plan.state = True, "active"
    if only is None:
        plan.step, plan.taken = draft.step, draft.taken
    plan.clear_tallies()
    here.emit(
        Opened(plan.id, stage.number, plan.generation, stage.kind, ids(names)),
        stage_key(plan.id, stage.number, plan.generation),
    )
    if stage.kind == "release":
        plan.released = True
        stage.closed_height = here.height
    elif stage.kind == "end":
        stage.closed_height = here.height
        complete(here, plan)


def complete(here: Here, plan: Plan) -> None:
    """End a plan that has nobody left to update (W13)."""
    plan.state = "completed"
    here.state.releases[plan.release].completed = True
    here.emit(Completed(plan.id, plan.release), plan_key(plan.id))


def apply_ready(here: Here, ready: Ready) -> None:
    """Note that a member holds the sealed image; counts for the barrier only."""
    plan = here.state.plans.get(ready.plan)
    stage = None if plan is None else plan.open_stage
    if stage is not None and stage.number == ready.stage and here.origin in stage.members:
        note(stage.ready, here.origin)


# ------------------------------------------------------------------------------------------ closing


def judge_stage(here: Here, plan: Plan, stage: Stage) -> None:
    """Freeze the plan when too many failed; close the stage good when every member has ended (W7)."""
    if plan.state != "active" or stage.kind in ("release", "end", "rollback"):
        return
    failed = stage.with_state("failed")
    if len(failed) > _forgiven(plan, stage):
        freeze(here, plan, f"failed:{','.join(failed)}")
        return
    if not stage.is_open or stage.with_state("waiting", "armed"):
        return
    confirmed = stage.with_state("confirmed")
    if stage.members and len(confirmed) < min(plan.spec.min_confirmed, len(stage.members)):
        freeze(here, plan, f"failed:{','.join(failed)}")
        return
    close_stage(here, plan, stage)


def _forgiven(plan: Plan, stage: Stage) -> int:
    return plan.spec.max_fail if stage.kind == "observers" else 0


def close_stage(here: Here, plan: Plan, stage: Stage) -> None:
    """Close a stage good; what it took counts for its step."""
    stage.closed_height = here.height
    plan.lates = []
    if stage.kind != "consent":
        plan.taken += len(stage.members)
    here.emit(
        Closed(
            plan.id,
            stage.number,
            plan.generation,
            ids(stage.with_state("confirmed")),
            ids(stage.with_state("failed")),
        ),
        stage_key(plan.id, stage.number, plan.generation),
    )


def apply_late(here: Here, late: Late) -> None:
    """Count a voter whose timer of this stage, generation and round has run out; the b-th is the deadline (W7)."""
    plan = here.state.plans.get(late.plan)
    if plan is None or not here.is_voter or late.generation != plan.generation:
        return
    stage = plan.open_stage
    if stage is None:
        if late.stage != len(plan.stages) or late.round or waits_for_go(here, plan) is None:
            return
        if here.vote(plan.lates) >= here.brake:
            freeze(here, plan, "late")
        return
    if (
        late.stage != stage.number
        or late.round != stage.round
        or plan.state not in ("active", "rolling back")
    ):
        return
    if here.state.is_class_frozen(plan.class_id) and stage.kind != "rollback":
        return
    if here.vote(plan.lates) < here.brake:
        return
    plan.lates = []
    if stage.kind == "rollback":
        close_rollback(here, plan, stage)
    else:
        pass_deadline(here, plan, stage)


def pass_deadline(here: Here, plan: Plan, stage: Stage) -> None:
    """Fail who is silent under a permit, miss who never asked, and let others take the places of the missed ones."""
    barred = plan.spec.barrier and any(id not in stage.ready for id in stage.members)
    silent = stage.with_state("armed")
    for id in silent:
        _end(stage.members[id], "failed", "silent", here.height)
        note(plan.dropped, id)
    missed = [id for id in stage.with_state("waiting") if not barred or id not in stage.ready]
    last = stage.round > plan.spec.retries
    if last:
        missed = stage.with_state("waiting")
    for id in missed:
        del stage.members[id]
        note(stage.missed, id)
        note(plan.missed, id)
    added: list[DeviceId] = []
    if stage.kind in ("voters", "observers") and not last:
        kind: Kind = "voters" if stage.kind == "voters" else "observers"
        others = [id for id in candidates(here, plan, kind) if id not in stage.members]
        added = draw(plan, others, len(missed))
    before = stage.round
    if len(stage.with_state("failed")) <= _forgiven(plan, stage):
        stage.members.update({id: Member() for id in added})
        stage.round += 1
    else:
        added = []
    here.emit(
        Deadline(plan.id, stage.number, plan.generation, before, ids(silent), ids(missed), ids(added)),
        stage_key(plan.id, stage.number, plan.generation),
    )
    _close_after_deadline(here, plan, stage)


def _close_after_deadline(here: Here, plan: Plan, stage: Stage) -> None:
    if stage.with_state("waiting") or len(stage.with_state("failed")) > _forgiven(plan, stage):
        judge_stage(here, plan, stage)
        return
    confirmed = len(stage.with_state("confirmed"))
    if confirmed < plan.spec.min_confirmed and (_has_more(here, plan, stage) or not _has_confirmed(plan)):
        freeze(here, plan, "late")
        return
    close_stage(here, plan, stage)


def _has_more(here: Here, plan: Plan, stage: Stage) -> bool:
    """Answer whether somebody else could have been asked; where only missed ones are left the end follows (W13)."""
    kind: Kind = "observers" if stage.kind == "observers" else "voters"
    return bool(candidates(here, plan, kind))


def _has_confirmed(plan: Plan) -> bool:
    return any(stage.with_state("confirmed") for stage in plan.stages)


def end_member(here: Here, plan: Plan, stage: Stage, device: DeviceId, *, failed: bool, reason: str) -> None:
    """Let a member's own report end its part: confirmed or failed; a failure after the end of its stage counts too."""
    member = stage.members.get(device)
    if member is None:
        return
    # Failed by silence stays failed, whatever it says afterwards.
    if member.state != "failed":
        _end(member, "failed" if failed else "confirmed", reason, here.height)
        if failed:
            note(plan.dropped, device)
        judge_stage(here, plan, stage)


def _end(member: Member, state: str, reason: str, height: int) -> None:
    member.state = "failed" if state == "failed" else "confirmed"
    member.reason, member.height = reason, height


def wait_again(stage: Stage, device: DeviceId) -> None:
    """Let a member whose permit ended without a trial ask again."""
    member = stage.members.get(device)
    if member is not None and member.state == "armed":
        member.state, member.permit = "waiting", 0


# ------------------------------------------------------------------------------------------ freeze and resume


def freeze(here: Here, plan: Plan, by: str) -> None:
    """Stop a plan: no go, no permit to the new image, no acceptance from here. Ends no permit and frees nobody (W10)."""
    if plan.state not in ("planned", "active"):
        return
    plan.state = "frozen"
    plan.halted_by = by[:300]
    plan.consented = []
    plan.clear_tallies()
    here.emit(Frozen(plan.id, plan.class_id, plan.generation, plan.halted_by), plan_key(plan.id))


def freeze_class(here: Here, class_id: bytes, by: str) -> None:
    """Stop every plan of a class, those yet to come included."""
    of_class = here.state.classes.setdefault(class_id, ClassState())
    of_class.halts, of_class.asked_halt = [], []
    if not of_class.frozen_by:
        of_class.frozen_by = by
        here.emit(Frozen(ZERO_DIGEST, class_id, 0, by), class_key(class_id))
    for plan in here.state.plans_of(class_id):
        if plan.started:
            freeze(here, plan, by)


def apply_halt(here: Here, halt: Halt) -> None:
    """Count a voter that wants a plan or a class to stop; the b-th freezes it. Of an operator it is a wish."""
    if halt.of_class:
        _halt_class(here, halt.subject)
        return
    plan = here.state.plans.get(halt.subject)
    if plan is None or plan.state not in ("planned", "active"):
        return
    if here.is_operator:
        note(plan.asked_halt, here.origin)
    if here.is_voter and here.vote(plan.halts) >= here.brake:
        freeze(here, plan, "votes")


def _halt_class(here: Here, class_id: bytes) -> None:
    known = any(release.manifest.class_id == class_id for release in here.state.releases.values())
    if not known or here.state.is_class_frozen(class_id):
        return
    of_class = here.state.classes.setdefault(class_id, ClassState())
    if here.is_operator:
        note(of_class.asked_halt, here.origin)
    if here.is_voter and here.vote(of_class.halts) >= here.brake:
        freeze_class(here, class_id, "votes")


def apply_resume(here: Here, resume: Resume) -> None:
    """Count a voter that wants a plan to go on without some devices; q equal wishes resume it in a new generation.

    It lifts the freeze of the class, and settles a contradiction: the plan's release is the one that survives. Of an
    operator it is a wish.
    """
    plan = here.state.plans.get(resume.plan)
    if plan is None or resume.generation != plan.generation:
        return
    release = here.state.releases[plan.release]
    stopped = is_frozen(here.state, plan) or release.suspended
    tail = plan.state == "completed" and plan.tail_failed > 0
    if release.state == "revoked" or plan.state in ("rolling back", "rolled back", "abandoned"):
        return
    if not stopped and not tail:
        return
    wanted = tuple(sorted(set(resume.without)))
    if here.is_operator:
        plan.asked_resume[here.origin] = wanted
    if not here.is_voter:
        return
    plan.resumes[here.origin] = wanted
    same = [voter for voter, without in plan.resumes.items() if without == wanted]
    if here.count(same) >= here.quorum:
        resume_plan(here, plan, wanted)


def resume_plan(here: Here, plan: Plan, without: tuple[DeviceId, ...]) -> None:
    """Drop who failed or is left out, and go on in a new generation: older arms, goes and lates are no-ops (W10)."""
    release = here.state.releases[plan.release]
    release.contradicted = release.suspended = False
    here.state.classes.pop(plan.class_id, None)
    dropped = list(without)
    for stage in plan.stages:
        for id in stage.with_state("failed"):
            note(dropped, id)
    for id in dropped:
        note(plan.dropped, id)
    if plan.state == "frozen":
        plan.state = "active" if plan.started else "planned"
    plan.generation += 1
    plan.tail_failed = 0
    plan.halted_by = ""
    plan.clear_tallies()
    here.emit(Resumed(plan.id, plan.generation, ids(dropped)), plan_key(plan.id))
    for stage in plan.stages:
        for id in dropped:
            stage.members.pop(id, None)
    if plan.open_stage is not None:
        plan.open_stage.generation = plan.generation
        judge_stage(here, plan, plan.open_stage)
