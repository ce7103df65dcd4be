"""Cuts a transaction at every operation, in every shape, lets the device recover, and judges the media.

The power takes all memory, so equal media mean an equal future: a state that was already judged is not run
again, and neither are the cuts of an operation that was already cut in the same state.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from firmware_sim import judge
from firmware_sim.errors import FlashError, PowerLoss, Refused
from firmware_sim.flash import NorFlash, Operation
from firmware_sim.scenarios import Scenario
from firmware_sim.torn import Shape, shapes
from firmware_sim.world import World

BOOTS_MAX = 12
"""Power cycles within which a device must have finished (I10)."""
FAILURES_KEPT = 50

Step = tuple[int, Shape | None]
"""A cut: (operation of this run, shape or None for a clean cut)."""
Path = tuple[Step, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """A violated invariant and the cuts that lead to it."""

    scenario: str
    invariant: str
    detail: str
    path: Path

    def cuts(self) -> list[str]:
        """Return the path as values of `--cut`."""
        return [f"{op}" if shape is None else f"{op}:{shape[0]}:{shape[1]}" for op, shape in self.path]


@dataclass(slots=True)
class Tally:
    """What a sweep did."""

    ops: int = 0
    """Operations of the uninterrupted transaction."""
    cuts: int = 0
    states: int = 0
    """Distinct media states from which a recovery was run."""
    merged: int = 0
    """Operations of a recovery that were already cut in the same state."""
    failed: int = 0
    failures: list[Failure] = field(default_factory=list)
    seconds: float = 0.0


class Sweep:
    """A sweep of one scenario. `depth` cuts in a row, each with `shape_count` torn shapes beside the clean one."""

    def __init__(
        self, world: World, scenario: Scenario, *, shape_count: int = 0, depth: int = 1, seed: int = 0
    ) -> None:
        self.world = world.with_settings(scenario.settings)
        self.scenario = scenario
        self.shape_count = shape_count
        self.depth = depth
        self.seed = seed
        self.tally = Tally()
        self._seen: dict[tuple[bytes, tuple[tuple[int, bytes], ...]], int] = {}
        self._cut_before: dict[tuple[object, ...], int] = {}
        self._pool = [self.world.layout.make_flash(self.world.failing) for _ in range(depth + 1)]
        self._start = self.scenario.setup(self.world).snapshot()

    def run(self) -> Tally:
        """Run the transaction once without a cut (L0), forking at every operation."""
        began = time.perf_counter()
        flash = self._pool[0]
        flash.restore(self._start)
        self.world.sent = ()
        self._judge(flash, (), self.depth, first=True)
        self.tally.ops = flash.ops
        self.tally.seconds = time.perf_counter() - began
        return self.tally

    def replay(self, path: Sequence[Step]) -> Tally:
        """Run one path of cuts, as a failure names it."""
        flash = self._pool[0]
        flash.restore(self._start)
        self.world.sent = ()
        for index, (op, shape) in enumerate(path):
            flash.observer = self._stopper(flash, op, shape)
            try:
                self._drive(flash, tuple(path[:index]), first=index == 0)
            except PowerLoss:
                self.tally.cuts += 1
            flash.observer = None
            flash.restore(flash.snapshot())
        self._judge(flash, tuple(path), 0, first=not path)
        return self.tally

    @staticmethod
    def _stopper(flash: NorFlash, op: int, shape: Shape | None) -> Callable[[Operation], None]:
        def stop(operation: Operation) -> None:
            if operation.number == op:
                flash.cut_power(operation, shape)
                raise PowerLoss(op)

        return stop

    # ---------------------------------------------------------------------------- running

    def _judge(self, flash: NorFlash, path: Path, depth: int, *, first: bool = False) -> None:
        """Let a device go on from its media until it is done, forking at each operation, and judge it."""
        began = judge.Began.of(self.world, flash)
        for invariant, detail in judge.cut(began):
            self._fail(invariant, detail, path)
        ends = frozenset({self.scenario.normal}) if first else self.scenario.ends(began.view)
        flash.observer = lambda operation: self._observe(flash, operation, path, depth)
        try:
            starts = self._drive(flash, path, first=first)
        except FlashError as error:
            return self._fail("I12", str(error), path)
        except Refused as refused:
            return self._fail("I10", f"refused: {refused.reason}", path)
        finally:
            flash.observer = None
        if starts is None:
            return self._fail("I10", f"no rest within {BOOTS_MAX} boots", path)
        for invariant, detail in judge.end(self.world, self.scenario, flash, began, ends, starts):
            self._fail(invariant, detail, path)
        return None

    def _drive(self, flash: NorFlash, path: Path, *, first: bool) -> int | None:
        """Run power cycles until the scenario is done and a further boot changes nothing.

        Returns the number of starts that found an unconfirmed image, None if it does not come to rest.
        """
        world, scenario = self.world, self.scenario
        starts, done = 0, False
        for cycle in range(BOOTS_MAX):
            fresh = first and cycle == 0
            board = world.make_board(flash)
            resting = self._rest_key(flash)
            if fresh and scenario.running:
                board.adopt()
            else:
                started = board.power_on().started
                view = world.oracle.look(flash)
                for invariant, detail in judge.boot(world, view, started):
                    self._fail(invariant, detail, path)
                if started is None:
                    return None
                starts += view.on_trial
            if done and self._rest_key(flash) == resting:
                return starts
            done = scenario.act(world, board, fresh)
        return None

    def _rest_key(self, flash: NorFlash) -> object:
        return self.world.oracle.look(flash) if self.scenario.restless else flash.media_hash()

    def _observe(self, flash: NorFlash, operation: Operation, path: Path, depth: int) -> None:
        world = self.world
        board = world.board
        secondary = world.layout.secondary
        if board.in_application and secondary.start <= operation.offset < secondary.trailer:
            if world.oracle.look(flash).on_trial:
                self._fail("I5", "the proven image is touched while the running one is on trial", path)
        if depth > 0:
            self._fork(flash, operation, path, depth)
            world.board = board

    def _fork(self, flash: NorFlash, operation: Operation, path: Path, depth: int) -> None:
        snapshot = flash.snapshot()
        sent = self.world.sent
        here = (flash.media_hash(), sent, operation.kind, operation.offset, operation.data)
        if self._cut_before.get(here, 0) >= depth:
            self.tally.merged += 1
            return
        self._cut_before[here] = depth
        scratch = self._pool[self.depth - depth + 1]
        for shape in (None, *shapes(operation.kind, self.shape_count, self.seed)):
            scratch.restore(snapshot)
            scratch.cut_power(operation, shape)
            self.tally.cuts += 1
            state = (scratch.media_hash(), sent)
            if self._seen.get(state, 0) >= depth:
                continue
            if state not in self._seen:
                self.tally.states += 1
            self._seen[state] = depth
            self._judge(scratch, (*path, (operation.number, shape)), depth - 1)
            self.world.sent = sent

    def _fail(self, invariant: str, detail: str, path: Path) -> None:
        self.tally.failed += 1
        if len(self.tally.failures) < FAILURES_KEPT:
            self.tally.failures.append(
                Failure(scenario=self.scenario.name, invariant=invariant, detail=detail, path=path)
            )
