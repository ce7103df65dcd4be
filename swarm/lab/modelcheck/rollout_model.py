"""Explores every interleaving of a small world of rollouts through the shipped `apps/rollout`.

`python -m swarm.lab.modelcheck.rollout_model --world four --states 1000000` runs one world (`--list` names them).
Breadth first, so that a violation is found by a shortest way, which is printed. States are counted after interchangeable
voters have been sorted. What is checked in each: FIRMWARE section 10, by `swarm.lab.checkers.rollout`.
"""

from __future__ import annotations

import argparse
import sys
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import permutations
from time import perf_counter
from typing import Final, NamedTuple

from swarm.apps.rollout.events import Closed
from swarm.lab.checkers.rollout import disbelieved, uncharged, unconfirmed, unended
from swarm.lab.modelcheck.rollout_units import Unit, faults_of, liar_moves, moves_of, truth_of
from swarm.lab.modelcheck.rollout_world import NAMES, Entry, Log, World

WORLDS: Final = {
    world.name: world
    for world in (
        World(name="four", liars="d", votes=frozenset({"halt"})),
        World(name="four-canary-lies", liars="a"),
        World(
            name="four-resumes",
            candidates="a",
            hold_back=3,
            liars="d",
            votes=frozenset({"halt", "resume"}),
            liar_moves=frozenset({"go", "late", "halt"}),
        ),
        World(
            name="four-bricks",
            candidates="a",
            hold_back=3,
            liars="d",
            faults=2,
            fault_kinds=frozenset({"brick", "offline", "crash", "fall_back"}),
        ),
        World(
            name="four-wipes",
            hold_back=2,
            faults=2,
            fault_kinds=frozenset({"wipe", "crash"}),
            liar_moves=frozenset(),
        ),
        World(
            name="four-rollback",
            candidates="a",
            hold_back=3,
            liars="d",
            liar_moves=frozenset({"go", "late", "halt"}),
            votes=frozenset({"halt", "rollback"}),
        ),
        World(
            name="four-revokes",
            candidates="a",
            hold_back=3,
            liars="",
            votes=frozenset({"revoke"}),
            faults=1,
            fault_kinds=frozenset({"crash"}),
        ),
        World(
            name="four-everything",
            candidates="a",
            hold_back=3,
            liars="d",
            liar_moves=frozenset({"go", "late"}),
            faults=1,
            fault_kinds=frozenset({"brick", "offline", "crash", "fall_back", "wipe"}),
            votes=frozenset({"halt", "resume", "rollback"}),
        ),
        World(
            name="four-stale",
            candidates="a",
            hold_back=3,
            liars="d",
            liar_moves=frozenset({"go", "late", "halt"}),
            votes=frozenset({"halt", "resume"}),
            delays=frozenset({"go", "late", "halt", "arm", "report"}),
            forgets_stale=False,
        ),
        World(
            name="five-refuse",
            n=5,
            liars="de",
            candidates="a",
            hold_back=4,
            liar_moves=frozenset({"go"}),
            faults=1,
            fault_kinds=frozenset({"brick", "crash"}),
        ),
        World(
            name="seven",
            n=7,
            u=2,
            reserve=0,
            liars="fg",
            candidates="ab",
            hold_back=5,
            liar_moves=frozenset({"go"}),
            faults=1,
            fault_kinds=frozenset({"brick"}),
        ),
    )
}


class Situation(NamedTuple):
    """One state: the log, every voter's device, what is sent and not logged, and the faults that may still come."""

    log: int
    units: tuple[Unit, ...]
    pool: frozenset[Entry]
    faults: int


class Way(NamedTuple):
    """One step: where it leads, in words, what it violates, and whether it must happen at some time."""

    label: str
    to: Situation
    complaints: tuple[str, ...]
    due: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What an exploration found; `trace` is a shortest way to the first violation."""

    world: str
    states: int
    depth: int
    seconds: float
    exhausted: bool
    complaint: str = ""
    trace: tuple[str, ...] = ()

    def in_words(self) -> str:
        """Say it in lines for people."""
        end = "all" if self.exhausted else "the first"
        lines = [f"{self.world}: {end} {self.states:,} states, depth {self.depth}, {self.seconds:.1f} s"]
        if self.complaint:
            lines.append(f"  violated: {self.complaint}")
            lines.extend(f"  {number:3} {step}" for number, step in enumerate(self.trace, 1))
        else:
            lines.append("  every invariant held")
        return "\n".join(lines)


@dataclass(slots=True)
class Model:
    """One world and its log."""

    world: World
    log: Log = field(init=False)
    names: str = field(init=False)
    _orders: list[str] = field(init=False)

    def __post_init__(self) -> None:
        """Sort out which voters are interchangeable: correct, and without an image of this class."""
        self.log = Log(self.world)
        self.names = NAMES[: self.world.n]
        alike = [n for n in self.names if n not in self.world.candidates and n not in self.world.liars]
        self._orders = []
        for order in permutations(alike):
            new = dict(zip(alike, order, strict=True))
            self._orders.append("".join(new.get(name, name) for name in self.names))

    def first(self) -> Situation:
        """Return the first state: planned, everybody runs the old image."""
        return Situation(self.log.begin(), tuple(Unit() for _ in self.names), frozenset(), self.world.faults)

    # ------------------------------------------------------------------------------ steps

    def ways(self, here: Situation) -> Iterator[Way]:
        """Yield every step from `here`."""
        view = self.log.view(here.log)
        units = dict(zip(self.names, here.units, strict=True))
        for name in self.names:
            if name in self.world.liars:
                for entry in liar_moves(self.world, view, name):
                    yield self._logged(here, entry, f"liar {name}: {entry.kind} {entry.args}", due=False)
                continue
            sent = [entry for entry in here.pool if entry.origin == name]
            for move in moves_of(self.world, view, units, name, sent):
                label = f"{name} {move.label}"
                if move.sends is not None and move.sends.kind not in self.world.delays:
                    way = self._logged(here, move.sends, label, due=not move.wish)
                    if way.to.log != here.log or way.complaints:
                        yield way
                    continue
                pool = here.pool if move.sends is None else here.pool | {move.sends}
                there = self._with(here, name, move.unit, pool)
                complaints = (move.complaint,) if move.complaint else ()
                if there != here or complaints:
                    yield Way(label, there, complaints, due=not move.wish)
            if here.faults:
                yield from self._faults(here, units, name)
        for entry in here.pool:
            yield self._logged(here, entry, f"log: {entry.origin} {entry.kind} {entry.args}", due=True)

    def _faults(self, here: Situation, units: dict[str, Unit], name: str) -> Iterator[Way]:
        fewer = here._replace(faults=here.faults - 1)
        for move in faults_of(self.world, units, name):
            if move.sends is None:
                yield Way(
                    f"{name} {move.label}", self._with(fewer, name, move.unit, here.pool), (), due=False
                )
                continue
            # A recovery record: everything that the old incarnation had sent is void from here.
            pool = frozenset(entry for entry in here.pool if entry.origin != name)
            log = self.log.apply(here.log, move.sends, 0).log
            there = self._with(fewer._replace(log=log), name, move.unit, pool)
            yield Way(f"{name} {move.label}", there, (), due=False)

    def _with(self, here: Situation, name: str, unit: Unit, pool: frozenset[Entry]) -> Situation:
        index = self.names.index(name)
        units = (*here.units[:index], unit, *here.units[index + 1 :])
        return here._replace(units=units, pool=pool)

    def _logged(self, here: Situation, entry: Entry, label: str, *, due: bool) -> Way:
        """Apply one entry of the pool, or a liar's."""
        applied = self.log.apply(here.log, entry, self._permit_id(here, entry))
        pool = here.pool - {entry}
        if entry.kind == "report":
            pool = _renumbered(pool, entry)
        if applied.log != here.log and self.world.forgets_stale:
            pool = self._without_stale(applied.log, pool, here)
        complaints = list(applied.complaints)
        for event in applied.events:
            if isinstance(event, Closed):
                truths = {n: truth_of(u) for n, u in zip(self.names, here.units, strict=True)}
                complaints.extend(unconfirmed(truths, self.world.setting, event))
        return Way(label, here._replace(log=applied.log, pool=pool), tuple(complaints), due=due)

    def _permit_id(self, here: Situation, entry: Entry) -> int:
        """Number the permits of each device by themselves, as low as nobody can confuse them."""
        if entry.kind != "arm":
            return 0
        unit = here.units[self.names.index(entry.origin)]
        permit = self.log.view(here.log).permits.get(entry.origin)
        known = [unit.acted, unit.declined, unit.permit, 0 if permit is None else permit.id]
        known += [e.args[1] for e in here.pool if e.kind == "report" and e.origin == entry.origin]
        if unit.must is not None:
            known.append(unit.must[1])
        return max([8 * unit.incarnation, *known]) + 1

    def _without_stale(self, log: int, pool: frozenset[Entry], here: Situation) -> frozenset[Entry]:
        kept = []
        for entry in pool:
            applied = self.log.apply(log, entry, self._permit_id(here, entry))
            if applied.events or applied.log != log:
                kept.append(entry)
        return frozenset(kept)

    # ------------------------------------------------------------------------------ one state

    def canonical(self, here: Situation) -> Situation:
        """Return the one state that stands for all that differ in the names of interchangeable voters."""
        here = self._settled(here)
        if len(self._orders) == 1:
            return here
        best = None
        for order in self._orders:
            new = dict(zip(self.names, order, strict=True))
            units = tuple(here.units[order.index(name)] for name in self.names)
            pool = frozenset(entry._replace(origin=new[entry.origin]) for entry in here.pool)
            log = self.log.rename(here.log, order)
            key = (log, tuple(repr(unit) for unit in units), sorted(pool))
            if best is None or key < best[0]:
                best = key, Situation(log, units, pool, here.faults)
        return here if best is None else best[1]

    def _settled(self, here: Situation) -> Situation:
        """Forget the numbers of permits that nobody can name any more."""
        permits = self.log.view(here.log).permits
        units = []
        for name, unit in zip(self.names, here.units, strict=True):
            quiet = unit.phase == "idle" and unit.must is None and name not in permits
            named = any(e.kind == "report" and e.origin == name and e.args[1] for e in here.pool)
            if quiet and not named and (unit.acted or unit.declined or unit.permit):
                unit = unit._replace(acted=0, declined=0, permit=0, back=False)  # noqa: PLW2901  -- the settled one
            units.append(unit)
        return here._replace(units=tuple(units))

    def complaints_in(self, here: Situation, *, quiet: bool) -> list[str]:
        """Return what is wrong with a state by itself; `quiet`: nothing that must happen is left."""
        setting = self.world.setting
        view = self.log.view(here.log)
        truths = {name: truth_of(unit) for name, unit in zip(self.names, here.units, strict=True)}
        found = uncharged(truths, setting, view.at_risk)
        if quiet:
            found += unended(view.plan)
            found += disbelieved(truths, setting, view.believed_new)
            found += [
                f"(10) the permit of {name} is leaked"
                for name in view.permits
                if name not in setting.liars and truths[name].phase == "idle"
            ]
        return found


def _renumbered(pool: frozenset[Entry], logged: Entry) -> frozenset[Entry]:
    """Count the reports of a device from the one that was logged; older ones have lost their chance."""
    serial = logged.args[5]
    return frozenset(
        entry._replace(args=(*entry.args[:5], entry.args[5] - serial))
        if entry.kind == "report" and entry.origin == logged.origin
        else entry
        for entry in pool
        if entry.kind != "report" or entry.origin != logged.origin or entry.args[5] > serial
    )


def explore(world: World, states_max: int) -> Outcome:
    """Explore `world` breadth first until a violation, the end, or `states_max` states."""
    started = perf_counter()
    model = Model(world)
    first = model.canonical(model.first())
    came: dict[Situation, tuple[Situation, str] | None] = {first: None}
    queue = deque([(first, 0)])
    depth = 0

    def outcome(complaint: str, last: Situation, *steps: str, exhausted: bool = False) -> Outcome:
        trace = list(reversed(steps))
        at: Situation | None = last if complaint else None
        while at is not None and (step := came[at]) is not None:
            at, label = step
            trace.append(label)
        return Outcome(
            world=world.name,
            states=len(came),
            depth=depth,
            seconds=perf_counter() - started,
            exhausted=exhausted,
            complaint=complaint,
            trace=tuple(reversed(trace)),
        )

    while queue:
        here, depth = queue.popleft()
        due = False
        for way in model.ways(here):
            if way.complaints:
                return outcome(way.complaints[0], here, way.label)
            there = model.canonical(way.to)
            due = due or (way.due and there != here)
            if there in came:
                continue
            came[there] = (here, way.label)
            wrong = model.complaints_in(there, quiet=False)
            if wrong:
                return outcome(wrong[0], there)
            if len(came) >= states_max:
                return outcome("", there)
            queue.append((there, depth + 1))
        if not due and (wrong := model.complaints_in(here, quiet=True)):
            return outcome(wrong[0], here)
    return outcome("", first, exhausted=True)


def main(arguments: list[str] | None = None) -> int:
    """Run one world, or all of them; returns 1 when an invariant is violated."""
    parser = argparse.ArgumentParser(prog="python -m swarm.lab.modelcheck.rollout_model", description=__doc__)
    parser.add_argument("--world", choices=(*WORLDS, "all"), default="all")
    parser.add_argument("--states", type=int, default=100_000, help="states of each world at most")
    parser.add_argument("--faults", type=int, help="instead of the world's own number of faults")
    parser.add_argument("--list", action="store_true", help="name the worlds")
    options = parser.parse_args(arguments)
    if options.list:
        print("\n".join(WORLDS))
        return 0
    bad = False
    for world in WORLDS.values() if options.world == "all" else (WORLDS[options.world],):
        chosen = world if options.faults is None else replace(world, faults=options.faults)
        found = explore(chosen, options.states)
        print(found.in_words(), flush=True)
        bad |= bool(found.complaint)
    return int(bad)


if __name__ == "__main__":
    sys.exit(main())
