"""From a scenario file to a checked `Scenario`; every complaint names the file, the line and the key's path."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Final

import msgspec

from swarm.agent.config import read_text_file
from swarm.lab.scenario.faults import check_devices, check_latency, read_faults
from swarm.lab.scenario.firmware_parse import check_firmware, is_order, read_firmware, read_orders
from swarm.lab.scenario.schema import (
    KNOWN_CPUS,
    NUMBER_RULES,
    OPTION_RULES,
    SUPPORTED_CPUS,
    SUPPORTED_RULES,
    ClockModel,
    Decide,
    Devices,
    DiskModel,
    Expect,
    Network,
    Scenario,
    SubmitShape,
    WorkLine,
)
from swarm.primitives.errors import ConfigError
from swarm.primitives.ids import checked_name
from swarm.primitives.limits import (
    DEADLINE_MS_MAX,
    DECISION_OPTIONS_MAX,
    DECISION_SCALE_MAX,
    NUMBER_MAX,
    SUBMISSION_BYTES_MAX,
)
from swarm.primitives.quorum import Budget, budget_of
from swarm.primitives.settings import (
    Between,
    Name,
    Node,
    PositiveMs,
    RateMilli,
    convert,
    entries_of,
    format_duration_ms,
    nearest_hint,
    read_choice,
    read_mapping,
    read_names,
)

_SUBMISSION_OVERHEAD_BYTES: Final = 2_048
"""Room for origin, numbers, signature and the framing of 64 commands in one submission."""

_RATE_PERIOD_MS: Final = 1_000_000
"""A rate counts events in a thousand seconds, so that 0.5/s is a whole number too."""


class _BudgetKeys(msgspec.Struct, frozen=True, kw_only=True):
    u: int


class _ScenarioKeys(msgspec.Struct, frozen=True, kw_only=True):
    """The keys of the file; what needs the number of devices to be judged stays a `Node`."""

    name: Name
    duration_ms: PositiveMs = msgspec.field(name="duration")
    devices: Devices
    description: str = ""
    seed: Annotated[int, Between(0, NUMBER_MAX)] = 1
    budget: str | _BudgetKeys = "balanced"
    network: Network = Network()
    disk: DiskModel = DiskModel()
    clock: ClockModel = ClockModel()
    cpu: str = "none"
    faults: tuple[Node, ...] = ()
    workload: tuple[Node, ...] = ()
    expect: Expect = Expect()
    firmware: Node | None = None


class _DecideKeys(msgspec.Struct, frozen=True, kw_only=True):
    subject: Name
    rule: str
    deadline_ms: PositiveMs = msgspec.field(name="deadline")
    options: tuple[str, ...] | None = None
    scale: Annotated[int, Between(0, DECISION_SCALE_MAX)] | None = None
    eligible: Node | None = None


class _WorkKeys(msgspec.Struct, frozen=True, kw_only=True):
    every_ms: PositiveMs | None = msgspec.field(name="every", default=None)
    rate_milli: RateMilli | None = msgspec.field(name="rate", default=None)
    decide: _DecideKeys | None = None
    submit: SubmitShape | None = None
    origin: Name | None = msgspec.field(name="from", default=None)


def load_scenario(path: Path | str, *, seed: int | None = None, duration_ms: int | None = None) -> Scenario:
    """Read and check the scenario file at `path`; `seed` and `duration_ms` override what it says.

    Raises `ConfigError` on one line; the caller prints it and exits with 2. What a certain engine cannot do is
    asked afterwards by `schema.check_engine`.
    """
    return parse_scenario(read_text_file(path), str(path), seed=seed, duration_ms=duration_ms)


def parse_scenario(
    text: str, source: str, *, seed: int | None = None, duration_ms: int | None = None
) -> Scenario:
    """Check the `text` of a scenario file called `source`; errors as in `load_scenario`."""
    root = read_mapping(text, source)
    keys = convert(root, _ScenarioKeys)
    if seed is not None and not 0 <= seed <= NUMBER_MAX:
        raise ConfigError(f"must be 0 to {NUMBER_MAX}, got {seed}", where="--seed")
    if duration_ms is not None and duration_ms <= 0:
        raise ConfigError("must be longer than zero", where="--duration")
    length_ms = keys.duration_ms if duration_ms is None else duration_ms
    budget = _read_budget(root, keys)
    _check_devices_section(root, keys.devices)
    check_latency(keys.network.latency, root, "network", "latency")
    _check_cpu(root, keys.cpu)
    ids = keys.devices.ids
    firmware = None if keys.firmware is None else read_firmware(keys.firmware, keys.devices)
    orders = [(index, node) for index, node in enumerate(keys.workload) if is_order(node)]
    scenario = Scenario(
        source=source,
        name=keys.name,
        description=keys.description,
        seed=keys.seed if seed is None else seed,
        duration_ms=length_ms,
        devices=keys.devices,
        budget=budget,
        network=keys.network,
        disk=keys.disk,
        clock=keys.clock,
        cpu=keys.cpu,
        faults=read_faults(keys.faults, ids, length_ms),
        workload=tuple(_read_work_line(node, ids) for node in keys.workload if not is_order(node)),
        expect=keys.expect,
        firmware=firmware,
        orders=read_orders(orders, firmware, keys.devices, budget, length_ms),
        behaviour_lines=dict(_behaviour_lines(entries_of(root)["devices"])),
    )
    _check_expect(root, scenario)
    check_firmware(root, scenario)
    return scenario


def _read_budget(root: Node, keys: _ScenarioKeys) -> Budget:
    """Return the fault budget of the voters, refusing an impossible one with its numbers."""
    voters = keys.devices.voters
    if isinstance(keys.budget, str):
        return budget_of(voters, keys.budget, where=root.locate("budget"))
    return budget_of(voters, keys.budget.u, where=root.locate("budget", "u"))


def _check_devices_section(root: Node, devices: Devices) -> None:
    for device, override in devices.each.items():
        node = entries_of(entries_of(root)["devices"])["each"]
        check_devices([device], devices.ids, entries_of(node)[device])
        if override.behaviour is not None and "kind" not in override.behaviour and devices.behaviour is None:
            raise ConfigError(
                "is missing",
                where=node.locate(device, "behaviour", "kind"),
                hint="there is no common behaviour to lay it over",
            )


def _behaviour_lines(devices: Node) -> Iterator[tuple[str, int]]:
    """Yield path and line of every behaviour block and of each of its options."""
    entries = entries_of(devices)
    each = entries_of(entries["each"]) if "each" in entries else {}
    for owner in (devices, *each.values()):
        block = entries_of(owner).get("behaviour")
        if block is not None:
            yield block.path, block.line
            yield from ((option.path, option.line) for option in entries_of(block).values())


def _check_cpu(root: Node, cpu: str) -> None:
    where = root.locate("cpu")
    if cpu not in KNOWN_CPUS:
        raise ConfigError(f"unknown cpu {cpu!r}", where=where, hint=nearest_hint(cpu, KNOWN_CPUS))
    if not any(cpu in supported for supported in SUPPORTED_CPUS.values()):
        raise ConfigError(f"cpu {cpu!r} is not supported yet by this version", where=where)


# ------------------------------------------------------------------------------------------ workload


def _read_work_line(node: Node, ids: tuple[str, ...]) -> WorkLine:
    """Return one line of the workload; `from: any` is the default, round-robin over the devices that are up."""
    keys = convert(node, _WorkKeys)
    if (keys.every_ms is None) == (keys.rate_milli is None):
        raise node.error("needs either 'every' or 'rate'", hint="every: 500ms, or rate: 50/s")
    if keys.decide is not None and keys.submit is not None:
        raise node.error("needs either 'decide' or 'submit', not both")
    origin = None if keys.origin == "any" else keys.origin
    if origin is not None:
        check_devices([origin], ids, entries_of(node)["from"])
    count, period_ms = (
        (1, keys.every_ms) if keys.every_ms is not None else (keys.rate_milli or 0, _RATE_PERIOD_MS)
    )
    if keys.decide is not None:
        decide = _read_decide(keys.decide, entries_of(node)["decide"], ids)
        return WorkLine(count=count, period_ms=period_ms, action=decide, origin=origin)
    if keys.submit is None:
        raise node.error("needs either 'decide' or 'submit'")
    _check_size(keys.submit, entries_of(node)["submit"])
    return WorkLine(count=count, period_ms=period_ms, action=keys.submit, origin=origin)


def _check_size(shape: SubmitShape, node: Node) -> None:
    total = shape.bytes * shape.commands
    largest = SUBMISSION_BYTES_MAX - _SUBMISSION_OVERHEAD_BYTES
    if total > largest:
        raise node.error(
            f"{shape.commands} commands of {shape.bytes} bytes are {total}, at most {largest} fit"
        )


def _read_decide(keys: _DecideKeys, node: Node, ids: tuple[str, ...]) -> Decide:
    rule = _read_rule(entries_of(node)["rule"])
    if keys.deadline_ms > DEADLINE_MS_MAX:
        limit = format_duration_ms(DEADLINE_MS_MAX)
        raise ConfigError(f"is longer than {limit}", where=node.locate("deadline"))
    wants, refuses = ("options", "scale") if rule in OPTION_RULES else ("scale", "options")
    if wants not in entries_of(node):
        raise ConfigError(f"is missing; rule {rule!r} needs it", where=node.locate(wants))
    if refuses in entries_of(node):
        raise ConfigError(f"rule {rule!r} takes no {refuses!r}, only {wants!r}", where=node.locate(refuses))
    return Decide(
        subject=keys.subject,
        rule=rule,
        deadline_ms=keys.deadline_ms,
        options=() if keys.options is None else _checked_options(keys.options, node),
        scale=keys.scale,
        eligible=_read_eligible(keys.eligible, ids),
    )


def _read_rule(node: Node) -> str:
    rule = read_choice(node, (*OPTION_RULES, *NUMBER_RULES), what="rule")
    if rule not in SUPPORTED_RULES:
        raise node.error(
            f"rule {rule!r} is not supported yet by this version",
            hint=f"supported: {', '.join(SUPPORTED_RULES)}",
        )
    return rule


def _checked_options(options: tuple[str, ...], node: Node) -> tuple[str, ...]:
    for index, option in enumerate(options):
        where = node.locate("options", index)
        checked_name(option, where=where, what="option")
        if option in options[:index]:
            raise ConfigError(f"option {option!r} stands twice", where=where)
    if not 2 <= len(options) <= DECISION_OPTIONS_MAX:
        raise ConfigError(
            f"must be 2 to {DECISION_OPTIONS_MAX} options, got {len(options)}", where=node.locate("options")
        )
    return options


def _read_eligible(node: Node | None, ids: tuple[str, ...]) -> str | tuple[str, ...]:
    """Return who may ballot: `voters`, `all`, or the ids of devices."""
    if node is None:
        return "voters"
    if node.value in ("voters", "all"):
        return str(node.value)
    names = read_names(node)
    check_devices(names, ids, node)
    return names


# ------------------------------------------------------------------------------------------ expectations


def _check_expect(root: Node, scenario: Scenario) -> None:
    """Refuse expectations that no run could ever be judged by."""
    expect = scenario.expect
    convicted = entries_of(root).get("expect") and entries_of(entries_of(root)["expect"]).get("convicted")
    if convicted is not None and expect.convicted is not None:
        check_devices(expect.convicted, scenario.devices.ids, convicted)
    if expect.caught_up_within_ms is not None:
        due_ms = scenario.last_fault_end_ms + expect.caught_up_within_ms
        if due_ms > scenario.duration_ms:
            due, end = format_duration_ms(due_ms), format_duration_ms(scenario.duration_ms)
            raise ConfigError(
                f"is due at {due}, after the last fault, but the run ends at {end}",
                where=root.locate("expect", "caught_up_within"),
            )
    decided = {
        line.action.subject: line.action for line in scenario.workload if isinstance(line.action, Decide)
    }
    for subject, wanted in expect.decisions.items():
        where = root.locate("expect", "decisions", subject)
        if subject not in decided:
            hint = nearest_hint(subject, decided) if decided else "the workload decides nothing"
            raise ConfigError(f"no workload line decides {subject!r}", where=where, hint=hint)
        if wanted.min is not None and wanted.max is not None and wanted.min > wanted.max:
            raise ConfigError(f"min {wanted.min:g} is above max {wanted.max:g}", where=where)
        _check_expected_outcome(root, subject, decided[subject], wanted.outcome, (wanted.min, wanted.max))


def _check_expected_outcome(
    root: Node, subject: str, action: Decide, outcome: str | None, bounds: tuple[float | None, float | None]
) -> None:
    place = ("expect", "decisions", subject)
    if outcome is not None and outcome not in action.options:
        raise ConfigError(
            f"{outcome!r} is no option of {subject!r}",
            where=root.locate(*place, "outcome"),
            hint=nearest_hint(outcome, action.options) if action.options else "use min and max",
        )
    for key, bound in zip(("min", "max"), bounds, strict=True):
        if bound is not None and action.options:
            raise ConfigError(f"{subject!r} has options, no numbers", where=root.locate(*place, key))
