"""votes-always: every go, late and halt that anybody could count, at once and for every plan."""

from __future__ import annotations

from typing import ClassVar

from swarm.apps.rollout.entries import Approve, Go, Halt, Late, Rollback
from swarm.device.device import Device
from swarm.device.turn import Turn, TurnInput
from swarm.lab.attackers.insider import Insider, Speaker, rollout_state


class VotesAlways:
    """Wants every release approved, every stage opened and closed, every plan halted and taken back."""

    name: ClassVar[str] = "votes-always"
    keeps_firmware: ClassVar[bool] = False

    def __init__(self, insider: Insider) -> None:
        """Nothing said yet."""
        del insider
        self._speaker = Speaker()

    def change(self, turn: Turn) -> Turn:
        """Change nothing: the lie is in its votes."""
        return turn

    def act(self, device: Device, now_ms: int) -> tuple[tuple[TurnInput, ...], int | None]:
        """Cast every vote there is, again whenever a stage, a round or a generation is new."""
        del now_ms
        state = rollout_state(device)
        if state is None:
            return (), None
        for release in state.releases.values():
            if release.state == "proposed":
                self._speaker.say_once(("approve", release.id), Approve(release.id))
        for plan in state.plans.values():
            stage = plan.open_stage
            next_stage = len(plan.stages)
            place = (plan.id, plan.generation, next_stage)
            self._speaker.say_once(("go", place), Go(plan.id, next_stage, plan.generation))
            number, turn = (next_stage, 0) if stage is None else (stage.number, stage.round)
            late = Late(plan.id, number, plan.generation, turn)
            self._speaker.say_once(("late", plan.id, plan.generation, number, turn), late)
            halt = Halt(plan.id, of_class=False, reason="")
            self._speaker.say_once(("halt", place), halt)
            self._speaker.say_once(("rollback", place), Rollback(plan.id, stop=False))
        return self._speaker.take()
