"""The `faults` lines of a scenario file: from YAML to the closed set of frozen faults, in the order they happen."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Final, Literal, cast

import msgspec

from swarm.lab.scenario.attacks import SUPPORTED_ATTACKS
from swarm.lab.scenario.firmware import DURING, STOLEN, During
from swarm.lab.scenario.schema import (
    DISK_FAULTS,
    KNOWN_FAULTS,
    POWER_OFF_MS,
    SUPPORTED_FAULTS,
    BrokerDown,
    BrokerImpair,
    Byzantine,
    Clock,
    Clone,
    Crash,
    Cut,
    Disk,
    Fault,
    Heal,
    Latency,
    Partition,
    PowerCut,
    Restart,
    Slow,
    StolenKeys,
    Wipe,
)
from swarm.primitives.errors import ConfigError
from swarm.primitives.limits import RELEASE_KEYS_MAX
from swarm.primitives.settings import (
    DurationMs,
    Name,
    Names,
    Node,
    PositiveMs,
    Ppm,
    SignedMs,
    convert,
    describe,
    entries_of,
    format_duration_ms,
    items_of,
    read_choice,
    read_duration_ms,
    read_name,
    read_names,
    read_positive_ms,
    refuse_unknown,
)

_LASTING: Final = ("slow", "disk", "broker", "power_cut")
"""Faults that `for` may end; the others end by another line."""

_BESIDE: Final[Mapping[str, tuple[str, ...]]] = {
    "power_cut": ("during",),
    "stolen_keys": ("release", "from"),
}
"""What else may stand beside a fault's key."""


class _CutKeys(msgspec.Struct, frozen=True, kw_only=True):
    sender: Name = msgspec.field(name="from")
    receivers: Names = msgspec.field(name="to")


class _SlowKeys(msgspec.Struct, frozen=True, kw_only=True):
    devices: Names
    latency: Latency


class _DiskKeys(msgspec.Struct, frozen=True, kw_only=True):
    devices: Names
    fault: str


class _ClockKeys(msgspec.Struct, frozen=True, kw_only=True):
    devices: Names
    jump_ms: SignedMs = msgspec.field(name="jump")


class _BrokerKeys(msgspec.Struct, frozen=True, kw_only=True):
    down: bool = False
    drop_ppm: Ppm = msgspec.field(name="drop", default=0)
    duplicate_ppm: Ppm = msgspec.field(name="duplicate", default=0)
    reorder_ppm: Ppm = msgspec.field(name="reorder", default=0)
    replay_ppm: Ppm = msgspec.field(name="replay", default=0)


class _ByzantineKeys(msgspec.Struct, frozen=True, kw_only=True):
    device: Name
    attack: str


class _When(msgspec.Struct, frozen=True, kw_only=True):
    at_ms: DurationMs
    order: int
    for_ms: PositiveMs | None
    beside: Mapping[str, Node]
    """What stands beside the fault's own key."""


def read_faults(nodes: Iterable[Node], devices: Iterable[str], duration_ms: int) -> tuple[Fault, ...]:
    """Return the faults of the `faults` list, sorted by time and then by their order in the file.

    `devices` are the ids that exist, `duration_ms` is the length of the run. Raises `ConfigError` with the key's
    path for an unknown or unsupported fault, two in one entry, a device that does not exist, a time outside the
    run, and a restart of a device that is not down.
    """
    known = tuple(devices)
    placed: list[tuple[Fault, Node]] = []
    for order, node in enumerate(nodes):
        placed.append((_read_fault(node, order, known, duration_ms), node))
    placed.sort(key=lambda entry: (entry[0].at_ms, entry[0].order))
    _check_history(placed)
    return tuple(fault for fault, _ in placed)


def check_latency(latency: Latency, node: Node, *parts: str) -> None:
    """Raise `ConfigError` if half of the messages would take longer than 99 of 100."""
    if latency.median_ms > latency.p99_ms:
        median, p99 = format_duration_ms(latency.median_ms), format_duration_ms(latency.p99_ms)
        raise ConfigError(f"median {median} is above p99 {p99}", where=node.locate(*parts, "median"))


def check_devices(names: Iterable[str], known: Iterable[str], node: Node) -> None:
    """Raise `ConfigError` for the first of `names` that is no device of the scenario.

    `node` is where the names stand: one name, a list, or a mapping in which one of the values is the name.
    """
    ids = tuple(known)
    for index, name in enumerate(names):
        if name not in ids:
            where = node.locate(index) if isinstance(node.value, list) else node.where
            raise ConfigError(
                f"device {name!r} does not exist", where=where, hint=f"devices are {_in_short(ids)}"
            )


def _in_short(ids: tuple[str, ...]) -> str:
    return ", ".join(ids) if len(ids) <= 8 else f"{', '.join(ids[:4])} .. {ids[-1]}"


def _read_fault(node: Node, order: int, known: tuple[str, ...], duration_ms: int) -> Fault:
    entries = entries_of(node)
    beside = {key for key in entries if key in KNOWN_FAULTS for key in _BESIDE.get(key, ())}
    refuse_unknown(node, ("at", "for", *sorted(beside), *KNOWN_FAULTS), what="fault or key")
    keys = [key for key in entries if key in KNOWN_FAULTS]
    if not keys:
        raise node.error("names no fault", hint=f"known: {', '.join(KNOWN_FAULTS)}")
    if len(keys) > 1:
        raise node.error(f"two faults in one entry: {keys[0]} and {keys[1]}", hint="write one line for each")
    key = keys[0]
    body = entries[key]
    if not any(key in supported for supported in SUPPORTED_FAULTS.values()):
        raise body.error(f"fault {key!r} is not supported yet by this version")
    if "at" not in entries:
        raise ConfigError("is missing", where=node.locate("at"), hint="when it happens: at: 5s")
    if "for" in entries and key not in _LASTING:
        raise entries["for"].error(f"fault {key!r} takes no duration", hint=f"only {', '.join(_LASTING)} do")
    when = _When(
        at_ms=read_duration_ms(entries["at"]),
        order=order,
        for_ms=read_positive_ms(entries["for"]) if "for" in entries else None,
        beside={key: item for key, item in entries.items() if key in beside},
    )
    if when.at_ms >= duration_ms:
        at, end = format_duration_ms(when.at_ms), format_duration_ms(duration_ms)
        raise entries["at"].error(f"the fault at {at} is not within the run, which ends at {end}")
    return _READERS[key](body, when, known)


def _read_devices(body: Node, known: tuple[str, ...]) -> tuple[str, ...]:
    names = read_names(body)
    check_devices(names, known, body)
    return names


def _read_crash(body: Node, when: _When, known: tuple[str, ...]) -> Fault:
    return Crash(at_ms=when.at_ms, order=when.order, devices=_read_devices(body, known))


def _read_restart(body: Node, when: _When, known: tuple[str, ...]) -> Fault:
    return Restart(at_ms=when.at_ms, order=when.order, devices=_read_devices(body, known))


def _read_wipe(body: Node, when: _When, known: tuple[str, ...]) -> Fault:
    return Wipe(at_ms=when.at_ms, order=when.order, devices=_read_devices(body, known))


def _read_clone(body: Node, when: _When, known: tuple[str, ...]) -> Fault:
    device = read_name(body)
    check_devices([device], known, body)
    return Clone(at_ms=when.at_ms, order=when.order, device=device)


def _read_partition(body: Node, when: _When, known: tuple[str, ...]) -> Fault:
    groups: list[tuple[str, ...]] = []
    for item in items_of(body):
        group = _read_devices(item, known)
        twice = [name for name in group if any(name in earlier for earlier in groups)]
        if twice:
            raise item.error(f"device {twice[0]!r} is in two groups")
        groups.append(group)
    if not groups:
        raise body.error("has no group", hint="[[dev-0, dev-1], [dev-2, dev-3]]")
    return Partition(at_ms=when.at_ms, order=when.order, groups=tuple(groups))


def _read_cut(body: Node, when: _When, known: tuple[str, ...]) -> Fault:
    keys = convert(body, _CutKeys)
    entries = entries_of(body)
    check_devices([keys.sender], known, entries["from"])
    check_devices(keys.receivers, known, entries["to"])
    if keys.sender in keys.receivers:
        raise entries["to"].error(f"{keys.sender!r} cannot be cut off from itself")
    return Cut(at_ms=when.at_ms, order=when.order, sender=keys.sender, receivers=keys.receivers)


def _read_heal(body: Node, when: _When, known: tuple[str, ...]) -> Fault:
    del known  # heals the whole network
    read_choice(body, ("all",))
    return Heal(at_ms=when.at_ms, order=when.order)


def _read_slow(body: Node, when: _When, known: tuple[str, ...]) -> Fault:
    keys = convert(body, _SlowKeys)
    check_devices(keys.devices, known, entries_of(body)["devices"])
    check_latency(keys.latency, body, "latency")
    return Slow(
        at_ms=when.at_ms, order=when.order, for_ms=when.for_ms, devices=keys.devices, latency=keys.latency
    )


def _read_disk(body: Node, when: _When, known: tuple[str, ...]) -> Fault:
    keys = convert(body, _DiskKeys)
    entries = entries_of(body)
    check_devices(keys.devices, known, entries["devices"])
    fault = read_choice(entries["fault"], DISK_FAULTS, what="disk fault")
    return Disk(at_ms=when.at_ms, order=when.order, for_ms=when.for_ms, devices=keys.devices, fault=fault)


def _read_clock(body: Node, when: _When, known: tuple[str, ...]) -> Fault:
    keys = convert(body, _ClockKeys)
    check_devices(keys.devices, known, entries_of(body)["devices"])
    return Clock(at_ms=when.at_ms, order=when.order, devices=keys.devices, jump_ms=keys.jump_ms)


def _read_broker(body: Node, when: _When, known: tuple[str, ...]) -> Fault:
    del known  # there is one broker
    keys = convert(body, _BrokerKeys)
    rates = (keys.drop_ppm, keys.duplicate_ppm, keys.reorder_ppm, keys.replay_ppm)
    if keys.down == any(rates):
        raise body.error("is either down or mistreats messages", hint="{down: true} or {drop: 0.2}")
    if keys.down:
        return BrokerDown(at_ms=when.at_ms, order=when.order, for_ms=when.for_ms)
    return BrokerImpair(
        at_ms=when.at_ms,
        order=when.order,
        for_ms=when.for_ms,
        drop_ppm=keys.drop_ppm,
        duplicate_ppm=keys.duplicate_ppm,
        reorder_ppm=keys.reorder_ppm,
        replay_ppm=keys.replay_ppm,
    )


def _read_byzantine(body: Node, when: _When, known: tuple[str, ...]) -> Fault:
    keys = convert(body, _ByzantineKeys)
    entries = entries_of(body)
    check_devices([keys.device], known, entries["device"])
    supported = sorted({attack for attacks in SUPPORTED_ATTACKS.values() for attack in attacks})
    if keys.attack not in supported:
        raise entries["attack"].error(
            f"attack {describe(entries['attack'])} is not supported by this version",
            hint=f"supported: {', '.join(supported)}",
        )
    return Byzantine(at_ms=when.at_ms, order=when.order, device=keys.device, attack=keys.attack)


def _read_power_cut(body: Node, when: _When, known: tuple[str, ...]) -> Fault:
    during: During | None = None
    if "during" in when.beside:
        during = cast("During", read_choice(when.beside["during"], DURING, what="step"))
    return PowerCut(
        at_ms=when.at_ms,
        order=when.order,
        for_ms=POWER_OFF_MS if when.for_ms is None else when.for_ms,
        devices=_read_devices(body, known),
        during=during,
    )


def _read_stolen_keys(body: Node, when: _When, known: tuple[str, ...]) -> Fault:
    del (
        known
    )  # a thief may hold the key of a member that runs no device; who exists is checked with the release keys
    count = convert(body, int)
    if not 1 <= count <= RELEASE_KEYS_MAX:
        raise body.error(f"must be 1 to {RELEASE_KEYS_MAX}, got {count}")
    return StolenKeys(
        at_ms=when.at_ms,
        order=when.order,
        count=count,
        release=read_name(when.beside["release"]) if "release" in when.beside else STOLEN,
        origin=read_name(when.beside["from"]) if "from" in when.beside else "",
    )


_READERS: Final[Mapping[str, Callable[[Node, _When, tuple[str, ...]], Fault]]] = {
    "crash": _read_crash,
    "restart": _read_restart,
    "wipe": _read_wipe,
    "clone": _read_clone,
    "partition": _read_partition,
    "cut": _read_cut,
    "heal": _read_heal,
    "slow": _read_slow,
    "disk": _read_disk,
    "clock": _read_clock,
    "broker": _read_broker,
    "byzantine": _read_byzantine,
    "power_cut": _read_power_cut,
    "stolen_keys": _read_stolen_keys,
}


def _check_history(placed: Iterable[tuple[Fault, Node]]) -> None:
    """Walk through the run and refuse what cannot happen: a crash of what is down, a restart of what is up."""
    down: set[str] = set()
    attacked: set[str] = set()
    for fault, node in placed:
        if isinstance(fault, Crash):
            _refuse_member(fault.devices, down, node, "crash", "is down already")
            down.update(fault.devices)
        elif isinstance(fault, Restart):
            up = [device for device in fault.devices if device not in down]
            _refuse_member(fault.devices, up, node, "restart", "has not crashed")
            down.difference_update(fault.devices)
        elif isinstance(fault, Wipe):
            down.difference_update(fault.devices)
        elif isinstance(fault, Byzantine):
            if fault.device in attacked:
                raise ConfigError(
                    f"device {fault.device!r} has an attacker already",
                    where=node.locate("byzantine", "device"),
                )
            attacked.add(fault.device)


def _refuse_member(
    devices: tuple[str, ...], refused: Iterable[str], node: Node, key: Literal["crash", "restart"], why: str
) -> None:
    bad = set(refused)
    for index, device in enumerate(devices):
        if device in bad:
            body = entries_of(node)[key]
            where = body.locate(index) if isinstance(body.value, list) else body.where
            raise ConfigError(f"device {device!r} {why} at that time", where=where)
