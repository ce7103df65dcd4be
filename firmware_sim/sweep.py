"""`python -m firmware_sim.sweep`: cut a device at every operation, judge what is left, say how to see it again."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field

from firmware_sim.bugs import BUGS
from firmware_sim.cuts import Failure, Step, Sweep, Tally
from firmware_sim.decay import decay
from firmware_sim.errors import FlashError
from firmware_sim.flash import Failing
from firmware_sim.scenarios import ALL, BY_NAME, Scenario
from firmware_sim.slots import DeviceLayout, Trailer
from firmware_sim.torn import ERASE_MASKS, WRITE_MASKS, ZEROED
from firmware_sim.world import World

SHAPES = 24
LEVELS = {
    0: "one update, uninterrupted",
    1: "a clean cut at every operation of an update",
    2: "and torn cuts, in many shapes",
    3: "two cuts in a row, the second during the recovery",
    4: "level 2 of every transaction",
    5: "level 2 with a status area that loses writes",
    6: "one bit flipped at rest",
}
FAILING_RATES = ((1.0, 0), (0.5, 1), (0.5, 2))
FAILING_SCENARIOS = ("update", "bad-update", "revert")


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What to sweep."""

    layout: DeviceLayout = field(default_factory=DeviceLayout)
    levels: tuple[int, ...] = (4, 5, 6)
    scenarios: tuple[str, ...] = ()
    shapes: int = SHAPES
    depth: int = 1
    seed: int = 0
    bug: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One sweep of the table: what was swept and what came of it."""

    level: int
    scenario: str
    failing: str
    tally: Tally


def make_world(options: Options, failing: tuple[Failing, ...] = ()) -> World:
    """Return the device to sweep, with the seeded bug if one is named."""
    world = World(layout=options.layout, failing=failing)
    return BUGS[options.bug].infect(world) if options.bug else world


def failing_areas(layout: DeviceLayout, rate: float, seed: int) -> tuple[Failing, ...]:
    """Return the status area of the primary slot as one that loses this share of its writes."""
    trailer = Trailer(layout.make_flash(), layout.primary, layout)
    return (
        Failing(
            start=trailer.status,
            end=trailer.status_cell(trailer.records_max - 1) + layout.align,
            rate=rate,
            seed=seed,
        ),
    )


def sweep(options: Options) -> Iterator[Line]:
    """Run the levels one after the other."""
    for level in options.levels:
        if level == 6:
            yield Line(level=6, scenario="decay", failing="", tally=decay(make_world(options)))
            continue
        for scenario in _scenarios(level, options):
            for rate, seed in FAILING_RATES if level == 5 else ((0.0, 0),):
                areas = failing_areas(options.layout, rate, seed) if rate else ()
                tally = _sweep_one(scenario, level, options, areas)
                yield Line(
                    level=level, scenario=scenario.name, failing=_failing_name(rate, seed), tally=tally
                )


def _failing_name(rate: float, seed: int) -> str:
    return f"{rate}:{seed}" if rate else ""


def _scenarios(level: int, options: Options) -> list[Scenario]:
    if options.scenarios:
        return [BY_NAME[name] for name in options.scenarios]
    if level == 5:
        return [BY_NAME[name] for name in FAILING_SCENARIOS]
    return list(ALL) if level == 4 else [BY_NAME["update"]]


def _sweep_one(scenario: Scenario, level: int, options: Options, failing: tuple[Failing, ...]) -> Tally:
    depth = {0: 0, 3: max(2, options.depth)}.get(level, options.depth)
    shapes = 0 if level < 2 else options.shapes
    world = make_world(options, failing)
    return Sweep(world, scenario, shape_count=shapes, depth=depth, seed=options.seed).run()


# -------------------------------------------------------------------------------- saying it


def reproduce(failure: Failure, options: Options, failing: str) -> str:
    """Return the command that runs this one path again."""
    layout = options.layout
    words = [f"python -m firmware_sim.sweep --scenario {failure.scenario} --sectors {layout.image_sectors}"]
    words += [f"--sector-size {layout.sector}"] if layout.sector != 4096 else []
    words += [f"--align {layout.align}"] if layout.align != 8 else []
    words += [f"--erased {layout.erased:#04x}"] if layout.erased != 0xFF else []
    words += [f"--bug {options.bug}"] if options.bug else []
    words += [f"--failing {failing}"] if failing else []
    words += [f"--cut {cut}" for cut in failure.cuts()] or ["--level 0"]
    return " ".join(words)


HEAD = f"{'level':>5}  {'scenario':<17}{'failing':<9}{'ops':>6}{'cuts':>9}{'states':>9}{'merged':>9}{'failures':>9}{'seconds':>9}"


def row(line: Line) -> str:
    """Return a line of the table."""
    t = line.tally
    return (
        f"{line.level:>5}  {line.scenario:<17}{line.failing:<9}{t.ops:>6}{t.cuts:>9}{t.states:>9}{t.merged:>9}"
        f"{t.failed:>9}{t.seconds:>9.2f}"
    )


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def _say_failures(line: Line, options: Options, limit: int = 5) -> None:
    for failure in line.tally.failures[:limit]:
        _say(f"       {failure.invariant}: {failure.detail}")
        if line.level != 6:
            _say(f"       {reproduce(failure, options, line.failing)}")


def _as_data(line: Line, options: Options) -> dict[str, object]:
    failures = [
        {"invariant": f.invariant, "detail": f.detail, "command": reproduce(f, options, line.failing)}
        for f in line.tally.failures
    ]
    tally = asdict(line.tally) | {"failures": failures}
    return {"level": line.level, "scenario": line.scenario, "failing": line.failing} | tally


# -------------------------------------------------------------------------------- command line


def parse_cut(text: str) -> Step:
    """Read OP or OP:SHAPE:SEED. Raises ArgumentTypeError with what is wrong."""
    op, *shape = text.split(":")
    known = {*WRITE_MASKS, *ERASE_MASKS, *ZEROED}
    if not op.isdigit() or len(shape) not in {0, 2}:
        raise argparse.ArgumentTypeError(f"{text!r}: OP or OP:SHAPE:SEED, for example 12:half:0")
    if shape and (shape[0] not in known or not shape[1].isdigit()):
        raise argparse.ArgumentTypeError(f"{text!r}: shapes are {', '.join(sorted(known))}")
    return int(op), (shape[0], int(shape[1])) if shape else None


def _parse_failing(text: str) -> tuple[float, int]:
    rate, _, seed = text.partition(":")
    try:
        return float(rate), int(seed or 0)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: RATE or RATE:SEED, for example 0.5:1") from None


def _parser() -> argparse.ArgumentParser:
    levels = "; ".join(f"{level}: {text}" for level, text in LEVELS.items())
    parser = argparse.ArgumentParser(prog="python -m firmware_sim.sweep", description=__doc__, epilog=levels)
    add = parser.add_argument
    add("--level", type=int, action="append", choices=sorted(LEVELS), help="repeatable; default 4, 5 and 6")
    add("--scenario", action="append", choices=sorted(BY_NAME), help="repeatable; default as the level says")
    add("--sectors", type=int, default=8, help="sectors of an image (default 8)")
    add("--sector-size", type=int, default=4096, help="bytes of a sector (default 4096)")
    add("--shapes", type=int, default=SHAPES, help=f"torn shapes an operation (default {SHAPES})")
    add("--depth", type=int, default=1, help="cuts in a row (default 1, level 3 at least 2)")
    add("--align", type=int, default=8, choices=(1, 4, 8), help="write unit in bytes")
    add("--erased", type=lambda text: int(text, 0), default=0xFF, choices=(0, 255), help="erased value")
    add("--seed", type=int, default=0, help="other draws of the torn shapes")
    add("--bug", choices=sorted(BUGS), default="", help="sweep a device with this mistake: it must fail")
    add("--cut", type=parse_cut, action="append", help="only this path of cuts: OP[:SHAPE:SEED], repeatable")
    add("--failing", type=_parse_failing, help="with --cut: RATE[:SEED] of lost status writes")
    add("--json", action="store_true", help="print one JSON object a line")
    return parser


def _replay(arguments: argparse.Namespace, options: Options) -> Line:
    scenario = BY_NAME[(arguments.scenario or ["update"])[0]]
    failing = failing_areas(options.layout, *arguments.failing) if arguments.failing else ()
    name = _failing_name(*arguments.failing) if arguments.failing else ""
    tally = Sweep(make_world(options, failing), scenario).replay(arguments.cut)
    return Line(level=0, scenario=scenario.name, failing=name, tally=tally)


def main(argv: Sequence[str] | None = None) -> int:
    """Sweep as told; exit code 1 where an invariant was violated, 2 for a wrong option."""
    parser = _parser()
    arguments = parser.parse_args(argv)
    try:
        layout = DeviceLayout(
            image_sectors=arguments.sectors,
            sector=arguments.sector_size,
            align=arguments.align,
            erased=arguments.erased,
        )
        layout.make_flash()
    except FlashError as error:
        parser.error(str(error))
    options = Options(
        layout=layout,
        levels=tuple(arguments.level or (4, 5, 6)),
        scenarios=tuple(arguments.scenario or ()),
        shapes=arguments.shapes,
        depth=arguments.depth,
        seed=arguments.seed,
        bug=arguments.bug,
    )
    lines = [_replay(arguments, options)] if arguments.cut else sweep(options)
    failed = 0
    if not arguments.json:
        _say(HEAD)
    for line in lines:
        failed += line.tally.failed
        if arguments.json:
            _say(json.dumps(_as_data(line, options)))
        else:
            _say(row(line))
            _say_failures(line, options)
    if not arguments.json:
        _say("no failures" if not failed else f"{failed} failures")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
