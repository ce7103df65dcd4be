"""The section `firmware` of a scenario file and its `firmware` lines of work, with errors that name the key's path."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Annotated, Final, cast

import msgspec

from swarm.apps.application import Rejected
from swarm.apps.rollout.spec import PlanSpec, Step, settle_spec
from swarm.lab.scenario.faults import check_devices
from swarm.lab.scenario.firmware import (
    BEHAVIOURS,
    CLASS_DEFAULT,
    FACTORY,
    FACTORY_NUMBER,
    IMAGE_BYTES_DEFAULT,
    ORDERS,
    PLAN_STATES,
    RELEASE_STATES,
    STOLEN,
    VOTERS_ALL,
    Behaviour,
    ExpectFirmware,
    FirmwareModel,
    FirmwareOrder,
    KeysModel,
    OrderKind,
    ReleaseModel,
)
from swarm.lab.scenario.schema import Devices, PowerCut, Scenario, StolenKeys, fault_key
from swarm.primitives.errors import ConfigError
from swarm.primitives.ids import checked_name
from swarm.primitives.limits import (
    CHUNK_BYTES_MAX,
    CHUNK_BYTES_MIN,
    DURATION_MS_MAX,
    MEMBERS_MAX,
    NUMBER_MAX,
    PLAN_ATTEMPTS_MAX,
    PLAN_RETRIES_MAX,
    PLAN_STEPS_MAX,
    RELEASE_KEYS_MAX,
    VOTERS_MAX,
)
from swarm.primitives.quorum import Budget
from swarm.primitives.settings import (
    Between,
    DurationMs,
    Name,
    Node,
    PositiveMs,
    convert,
    describe,
    entries_of,
    format_duration_ms,
    nearest_hint,
    parse_duration_ms,
    read_choice,
    read_duration_ms,
    read_name,
    read_names,
    refuse_unknown,
)

_K_OF_N: Final = re.compile(r"([1-9][0-9]?)of([1-9][0-9]?)")
_SHARE: Final = re.compile(r"([0-9]{1,3})(?:\.([0-9]))?%")
_BOMB: Final = re.compile(r"bomb: *(.+)")
_IMAGE_BYTES_MAX: Final = 1024 * 1024
"""Of a simulated image: a run has hundreds of devices, and each of them holds two."""


# ------------------------------------------------------------------------------------------ the section


class _FirmwareKeys(msgspec.Struct, frozen=True, kw_only=True):
    release: Mapping[str, Node]
    keys: Node | None = None
    classes: Mapping[str, Node] | None = None
    approve: Node | None = None
    obey_halt: bool = True
    t_arm_ms: PositiveMs = msgspec.field(name="t_arm", default=60_000)


class _ReleaseKeys(msgspec.Struct, frozen=True, kw_only=True):
    behaves: Node | None = None
    class_name: Name | None = msgspec.field(name="class", default=None)
    number: Annotated[int, Between(FACTORY_NUMBER + 1, NUMBER_MAX)] | None = None
    counter: Annotated[int, Between(0, 2**32 - 1)] = 0
    oldest: Annotated[int, Between(0, NUMBER_MAX)] = 0
    use_before: Annotated[int, Between(0, NUMBER_MAX)] = 0
    image_bytes: Annotated[int, Between(256, _IMAGE_BYTES_MAX)] = msgspec.field(
        name="bytes", default=IMAGE_BYTES_DEFAULT
    )
    chunk_bytes: Annotated[int, Between(CHUNK_BYTES_MIN, CHUNK_BYTES_MAX)] = msgspec.field(
        name="chunk", default=CHUNK_BYTES_MIN
    )
    needs: Mapping[str, Annotated[int, Between(1, NUMBER_MAX)]] = {}


def read_firmware(node: Node, devices: Devices) -> FirmwareModel:
    """Return the section `firmware`; raises `ConfigError` that names the key's path."""
    keys = convert(node, _FirmwareKeys)
    entries = entries_of(node)
    classes = _read_classes(keys.classes, node, devices)
    if not keys.release:
        raise entries["release"].error("names no release", hint="{v2: {behaves: healthy}}")
    releases: dict[str, ReleaseModel] = {}
    for index, (name, body) in enumerate(keys.release.items()):
        if name == FACTORY:
            raise body.error(f"{FACTORY!r} is the image that every device begins with")
        releases[name] = _read_release(name, body, index, classes)
    return FirmwareModel(
        keys=KeysModel(k=2, n=3) if keys.keys is None else _read_k_of_n(keys.keys),
        classes=classes,
        releases=releases,
        approve=1 if keys.approve is None else _read_approve(keys.approve),
        obey_halt=keys.obey_halt,
        t_arm_ms=keys.t_arm_ms,
    )


def _read_k_of_n(node: Node) -> KeysModel:
    match = _K_OF_N.fullmatch(str(node.value)) if isinstance(node.value, str) else None
    if match is None:
        raise node.error(f"{describe(node)} says not how many of how many keys sign", hint="such as 2of3")
    k, n = int(match[1]), int(match[2])
    if n > RELEASE_KEYS_MAX or k > n:
        raise node.error(f"{k} of {n} keys cannot sign", hint=f"at most {RELEASE_KEYS_MAX} keys")
    return KeysModel(k=k, n=n)


def _read_approve(node: Node) -> str | int:
    if node.value == "auto":
        return "auto"
    if isinstance(node.value, int) and not isinstance(node.value, bool) and node.value >= 1:
        return node.value
    raise node.error(
        f"must be auto or a number of operators, got {describe(node)}", hint="auto, 1, 2 and so on"
    )


def _read_classes(
    given: Mapping[str, Node] | None, node: Node, devices: Devices
) -> Mapping[str, tuple[str, ...]]:
    if given is None:
        return {CLASS_DEFAULT: devices.ids}
    groups = {"all": devices.ids, "voters": devices.voter_ids, "observers": devices.observer_ids}
    classes: dict[str, tuple[str, ...]] = {}
    for name, body in given.items():
        checked_name(name, where=body.where, what="class")
        if isinstance(body.value, str) and body.value in groups:
            classes[name] = groups[body.value]
        else:
            classes[name] = read_names(body)
            check_devices(classes[name], devices.ids, body)
    for device in devices.ids:
        within = [name for name, members in classes.items() if device in members]
        if len(within) != 1:
            found = "no class" if not within else f"the classes {within[0]} and {within[1]}"
            raise ConfigError(f"device {device!r} is in {found}", where=node.locate("classes"))
    return classes


def _read_release(name: str, node: Node, index: int, classes: Mapping[str, tuple[str, ...]]) -> ReleaseModel:
    checked_name(name, where=node.where, what="release")
    keys = convert(node, _ReleaseKeys)
    behaves: Behaviour = "healthy"
    bomb_ms = 0
    if keys.behaves is not None:
        behaves, bomb_ms = _read_behaves(keys.behaves)
    if keys.chunk_bytes & (keys.chunk_bytes - 1):
        raise ConfigError(f"{keys.chunk_bytes} is no power of two", where=node.locate("chunk"))
    number = index + FACTORY_NUMBER + 1 if keys.number is None else keys.number
    if keys.oldest >= number:
        raise ConfigError(f"{keys.oldest} is not below number {number}", where=node.locate("oldest"))
    class_name = next(iter(classes)) if keys.class_name is None else keys.class_name
    for given, place in ((class_name, ("class",)), *((need, ("needs", need)) for need in keys.needs)):
        if given not in classes:
            raise ConfigError(
                f"unknown class {given!r}", where=node.locate(*place), hint=nearest_hint(given, classes)
            )
    return ReleaseModel(
        name=name,
        behaves=behaves,
        bomb_ms=bomb_ms,
        class_name=class_name,
        number=number,
        counter=keys.counter,
        oldest=keys.oldest,
        use_before=keys.use_before,
        image_bytes=keys.image_bytes,
        chunk_bytes=keys.chunk_bytes,
        needs=keys.needs,
    )


def _read_behaves(node: Node) -> tuple[Behaviour, int]:
    """Return (behaviour, delay of a bomb): `crash`, `"bomb: 60s"` or `{bomb: 60s}`."""
    if isinstance(node.value, dict):
        refuse_unknown(node, ("bomb",), what="behaviour with a value")
        if len(node.value) != 1:
            raise node.error("names no behaviour", hint="{bomb: 60s}")
        return "bomb", read_duration_ms(node.value["bomb"])
    match = _BOMB.fullmatch(node.value) if isinstance(node.value, str) else None
    if match is not None:
        return "bomb", parse_duration_ms(match[1], node.where)
    if node.value == "bomb":
        raise node.error("a bomb needs its time", hint="{bomb: 60s}")
    return cast("Behaviour", read_choice(node, BEHAVIOURS, what="behaviour")), 0


# ------------------------------------------------------------------------------------------ orders


class _OrderKeys(msgspec.Struct, frozen=True, kw_only=True):
    at_ms: DurationMs = msgspec.field(name="at")
    firmware: Node
    origin: Name | None = msgspec.field(name="from", default=None)


class _ProposeKeys(msgspec.Struct, frozen=True, kw_only=True):
    release: Name
    signers: Annotated[int, Between(0, RELEASE_KEYS_MAX)] | None = None


class _ResumeKeys(msgspec.Struct, frozen=True, kw_only=True):
    release: Name
    without: Node | None = None


class _ConsentKeys(msgspec.Struct, frozen=True, kw_only=True):
    release: Name
    device: Name


class _HaltKeys(msgspec.Struct, frozen=True, kw_only=True):
    class_name: Name = msgspec.field(name="class")


_Voters = Annotated[int, Between(0, VOTERS_MAX)]


class _PlanKeys(msgspec.Struct, frozen=True, kw_only=True):
    release: Name
    steps: tuple[Node, ...] = ()
    soak_ms: DurationMs = msgspec.field(name="soak", default=60_000)
    deadline_ms: PositiveMs = msgspec.field(name="deadline", default=900_000)
    trial_ms: PositiveMs = msgspec.field(name="trial", default=120_000)
    attempts: Annotated[int, Between(1, PLAN_ATTEMPTS_MAX)] = 1
    max_fail: Annotated[int, Between(0, MEMBERS_MAX)] = 0
    min_confirmed: Annotated[int, Between(0, MEMBERS_MAX)] = 1
    pause_after: tuple[Annotated[int, Between(0, PLAN_STEPS_MAX - 1)], ...] = ()
    barrier: bool = False
    hold_back: _Voters | None = None
    reserve: _Voters | None = None
    retries: Annotated[int, Between(0, PLAN_RETRIES_MAX)] = 2


def is_order(node: Node) -> bool:
    """Answer whether a line of the workload is about firmware."""
    return isinstance(node.value, dict) and "firmware" in node.value


def read_orders(
    nodes: Iterable[tuple[int, Node]],
    firmware: FirmwareModel | None,
    devices: Devices,
    budget: Budget,
    duration_ms: int,
) -> tuple[FirmwareOrder, ...]:
    """Return the `firmware` lines of the workload, sorted by time and then by their order in the file."""
    orders = []
    for index, node in nodes:
        body = entries_of(node)["firmware"]
        if firmware is None:
            raise body.error(
                "needs the section firmware", hint="firmware: {release: {v2: {behaves: healthy}}}"
            )
        orders.append(_read_order(node, index, firmware, devices, budget))
        if orders[-1].at_ms >= duration_ms:
            end = format_duration_ms(duration_ms)
            raise entries_of(node)["at"].error(f"is not within the run, which ends at {end}")
    orders.sort(key=lambda order: (order.at_ms, order.order))
    return tuple(orders)


def _read_order(
    node: Node, index: int, firmware: FirmwareModel, devices: Devices, budget: Budget
) -> FirmwareOrder:
    keys = convert(node, _OrderKeys)
    body = keys.firmware
    refuse_unknown(body, ORDERS, what="order")
    named = list(entries_of(body))
    if len(named) != 1:
        raise body.error("names no order" if not named else f"two orders in one line: {named[0]}, {named[1]}")
    what = cast("OrderKind", named[0])
    order = FirmwareOrder(
        at_ms=keys.at_ms, order=index, what=what, origin=_read_origin(node, keys.origin, what, devices)
    )
    return _read_what(entries_of(body)[what], order, firmware, devices, budget)


def _read_origin(node: Node, given: str | None, what: OrderKind, devices: Devices) -> str:
    place = entries_of(node).get("from", node)
    if given is None:
        if devices.operators:
            return devices.operator_ids[0]
        if what in ("propose", "plan"):
            raise node.error(f"{what!r} needs an operator", hint="devices: {operators: 1}, or from: dev-0")
        return VOTERS_ALL
    if given == VOTERS_ALL:
        return given
    check_devices([given], (*devices.ids, *devices.operator_ids), place)
    if given in devices.observer_ids:
        raise place.error(f"{given!r} is an observer, whose {what!r} counts for nothing")
    return given


def _read_what(
    node: Node, order: FirmwareOrder, firmware: FirmwareModel, devices: Devices, budget: Budget
) -> FirmwareOrder:
    """Fill in what an order is about: the name of a release, or a mapping with more."""
    given = isinstance(node.value, dict)
    change = msgspec.structs.replace
    match order.what:
        case "propose" if given:
            propose = convert(node, _ProposeKeys)
            if propose.signers is not None and propose.signers > firmware.keys.n:
                where = node.locate("signers")
                raise ConfigError(f"there are {firmware.keys.n} release keys", where=where)
            return change(order, release=_release(node, firmware, "release"), signers=propose.signers)
        case "plan":
            return change(order, release=_release(node, firmware, "release"), spec=_read_spec(node, budget))
        case "resume" if given:
            resume = convert(node, _ResumeKeys)
            without: tuple[str, ...] = ()
            if resume.without is not None:
                without = read_names(resume.without, may_be_empty=True)
                check_devices(without, devices.ids, resume.without)
            return change(order, release=_release(node, firmware, "release"), without=without)
        case "consent":
            consent = convert(node, _ConsentKeys)
            check_devices([consent.device], devices.voter_ids, entries_of(node)["device"])
            return change(order, release=_release(node, firmware, "release"), device=consent.device)
        case "halt" if given:
            halt = convert(node, _HaltKeys)
            if halt.class_name not in firmware.classes:
                hint = nearest_hint(halt.class_name, firmware.classes)
                raise ConfigError(f"unknown class {halt.class_name!r}", where=node.locate("class"), hint=hint)
            return change(order, class_name=halt.class_name)
        case "keys":
            return change(order, keys=_read_k_of_n(node))
        case _:
            return change(order, release=_release(node, firmware))


def _release(node: Node, firmware: FirmwareModel, key: str | None = None) -> str:
    place = node if key is None else entries_of(node).get(key)
    if place is None:
        raise ConfigError("is missing", where=node.locate(key or ""))
    name = read_name(place)
    if name not in firmware.releases:
        raise place.error(f"unknown release {name!r}", hint=nearest_hint(name, firmware.releases))
    return name


def _read_spec(node: Node, budget: Budget) -> PlanSpec:
    keys = convert(node, _PlanKeys)
    if len(keys.steps) > PLAN_STEPS_MAX:
        raise ConfigError(f"has more than {PLAN_STEPS_MAX} steps", where=node.locate("steps"))
    for key, value in (("soak", keys.soak_ms), ("deadline", keys.deadline_ms), ("trial", keys.trial_ms)):
        if value > DURATION_MS_MAX:
            raise ConfigError("is too long", where=node.locate(key))
    spec = PlanSpec(
        steps=tuple(_read_step(step) for step in keys.steps),
        soak_ms=keys.soak_ms,
        deadline_ms=keys.deadline_ms,
        trial_ms=keys.trial_ms,
        attempts=keys.attempts,
        max_fail=keys.max_fail,
        min_confirmed=keys.min_confirmed,
        pause_after=keys.pause_after,
        barrier=keys.barrier,
        hold_back=keys.hold_back,
        reserve=keys.reserve,
        retries=keys.retries,
    )
    try:
        settle_spec(spec, budget)
    except Rejected as refusal:
        raise node.error(refusal.reason) from None
    return spec


def _read_step(node: Node) -> Step:
    """Return one step: `{voters: 1}` or `{observers: 25%}`."""
    refuse_unknown(node, ("voters", "observers"), what="kind of device")
    entries = entries_of(node)
    if len(entries) != 1:
        raise node.error("is one kind with a number or a share", hint="{voters: 1}, {observers: 25%}")
    kind, body = next(iter(entries.items()))
    match = _SHARE.fullmatch(body.value) if isinstance(body.value, str) else None
    count, permille = 0, 0
    if match is not None:
        permille = int(match[1]) * 10 + int(match[2] or 0)
    elif isinstance(body.value, int) and not isinstance(body.value, bool):
        count = body.value
    if not (1 <= permille <= 1000 or 1 <= count <= MEMBERS_MAX):
        raise body.error(f"{describe(body)} is no number of devices and no share", hint="2, or 25%")
    return Step("voters" if kind == "voters" else "observers", count, permille)


# ------------------------------------------------------------------------------------------ checks at the end


def check_firmware(root: Node, scenario: Scenario) -> None:
    """Refuse faults and expectations about firmware that no run could perform or be judged by."""
    firmware = scenario.firmware
    for fault in scenario.faults:
        if not isinstance(fault, PowerCut | StolenKeys):
            continue
        place = ("faults", fault.order)
        if firmware is None:
            where = root.locate(*place, fault_key(fault))
            raise ConfigError("needs the section firmware", where=where)
        if isinstance(fault, StolenKeys):
            _check_theft(root, fault, firmware, scenario.devices)
    expect = scenario.expect.firmware
    if expect is not None:
        if firmware is None:
            raise ConfigError("needs the section firmware", where=root.locate("expect", "firmware"))
        _check_expect(root, expect, firmware, scenario)


def _check_theft(root: Node, fault: StolenKeys, firmware: FirmwareModel, devices: Devices) -> None:
    place = ("faults", fault.order, "stolen_keys")
    if fault.count > firmware.keys.n:
        raise ConfigError(f"there are {firmware.keys.n} release keys", where=root.locate(*place))
    if fault.release != STOLEN and fault.release not in firmware.releases:
        hint = nearest_hint(fault.release, firmware.releases)
        raise ConfigError(
            f"unknown release {fault.release!r}",
            where=root.locate("faults", fault.order, "release"),
            hint=hint,
        )
    members = (*devices.voter_ids, *devices.operator_ids)
    if fault.origin and fault.origin not in members:
        raise ConfigError(
            f"{fault.origin!r} is neither a voter nor an operator",
            where=root.locate("faults", fault.order, "from"),
        )


def _check_expect(root: Node, expect: ExpectFirmware, firmware: FirmwareModel, scenario: Scenario) -> None:
    place = ("expect", "firmware")
    if expect.state is not None and expect.state not in PLAN_STATES:
        raise ConfigError(
            f"unknown state {expect.state!r}",
            where=root.locate(*place, "state"),
            hint=nearest_hint(expect.state, PLAN_STATES),
        )
    known = {*firmware.releases, STOLEN}
    for key, names in (("running", expect.running), ("releases", expect.releases)):
        for name in names:
            if name not in known and not (key == "running" and name == FACTORY):
                raise ConfigError(
                    f"unknown release {name!r}",
                    where=root.locate(*place, key, name),
                    hint=nearest_hint(name, (*firmware.releases, FACTORY)),
                )
    for name, state in expect.releases.items():
        if state not in RELEASE_STATES:
            raise ConfigError(
                f"unknown state {state!r}",
                where=root.locate(*place, "releases", name),
                hint=nearest_hint(state, RELEASE_STATES),
            )
    total = sum(expect.running.values())
    if total > len(scenario.devices.ids):
        where = root.locate(*place, "running")
        raise ConfigError(f"{total} devices of {len(scenario.devices.ids)}", where=where)
