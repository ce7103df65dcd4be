"""What a scenario is: one frozen value that both engines run, with every number in integer units.

Durations are milliseconds, probabilities parts per million, rates a count in a period. The names are those
of the YAML file (CONTRACTS, scenario file); a field whose unit is in its name has the key without the unit.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Annotated, Final, Literal

import msgspec

from swarm.agent.config import BehaviourBlock, read_behaviour
from swarm.lab.scenario.attacks import SUPPORTED_ATTACKS
from swarm.lab.scenario.firmware import (
    STOLEN,
    During,
    ExpectFirmware,
    FirmwareModel,
    FirmwareOrder,
)
from swarm.primitives.errors import ConfigError
from swarm.primitives.limits import (
    COMMAND_BYTES_MAX,
    MEMBERS_MAX,
    NUMBER_MAX,
    SUBMISSION_COMMANDS_MAX,
    VOTERS_MAX,
)
from swarm.primitives.quorum import Budget
from swarm.primitives.settings import (
    Between,
    DurationMs,
    PositiveMs,
    Ppm,
    Reads,
    Scalar,
    read_names,
)

Engine = Literal["sim", "mqtt"]

KNOWN_FAULTS: Final = (
    "crash",
    "restart",
    "wipe",
    "clone",
    "partition",
    "cut",
    "heal",
    "slow",
    "disk",
    "clock",
    "broker",
    "byzantine",
    "power_cut",
    "stolen_keys",
)
"""Every fault line of CONTRACTS, by its key."""

SUPPORTED_FAULTS: Final[Mapping[str, frozenset[str]]] = {
    "sim": frozenset(
        {"crash", "restart", "partition", "cut", "heal", "byzantine", "power_cut", "stolen_keys"}
    ),
    "mqtt": frozenset({"crash", "restart", "partition", "cut", "heal", "byzantine"}),
}
"""Which fault lines work, by engine. A line that works in no engine is refused when the file is read."""

SUPPORTED_CPUS: Final[Mapping[str, frozenset[str]]] = {
    "sim": frozenset({"none"}),
    "mqtt": frozenset({"none"}),
}
"""Which cost tables work, by engine."""

KNOWN_CPUS: Final = ("none", "pi5", "pi4", "pi3", "zero2w")

OPTION_RULES: Final = ("majority", "supermajority", "plurality", "approval", "unanimity")
"""Rules that choose one of `options` (PROTOCOL section 5)."""

NUMBER_RULES: Final = ("median", "trimmed-mean")
"""Rules over numbers with `scale` decimal places (PROTOCOL section 5)."""

SUPPORTED_RULES: Final = ("majority", "median")

SIMULATOR_REFUSES_KINDS: Final = ("file",)
"""Built-in behaviours that read the world outside, which a repeatable run cannot have."""

OPERATORS_MAX: Final = 8
"""Of a scenario: more people than ever agree on a release."""

POWER_OFF_MS: Final = 1_000
"""How long the power stays away after a cut that does not say it."""

DISK_FAULTS: Final = ("torn_write", "lost_unsynced", "full", "slow", "bit_flip")

# ------------------------------------------------------------------------------------------ sections


class DeviceOverride(msgspec.Struct, frozen=True, kw_only=True):
    """What differs on one device."""

    behaviour: Annotated[Mapping[str, Scalar], Reads(partial(read_behaviour, kind_needed=False))] | None = (
        None
    )


class Devices(msgspec.Struct, frozen=True, kw_only=True):
    """How many devices there are, and what each of them senses."""

    voters: Annotated[int, Between(1, VOTERS_MAX)]
    observers: Annotated[int, Between(0, MEMBERS_MAX - VOTERS_MAX)] = 0
    operators: Annotated[int, Between(0, OPERATORS_MAX)] = 0
    gather_ms: DurationMs = msgspec.field(name="gather", default=0)
    """How long an observer waits for more to take in with what has arrived; simulator only."""
    behaviour: BehaviourBlock | None = None
    each: Mapping[str, DeviceOverride] = {}

    @property
    def voter_ids(self) -> tuple[str, ...]:
        """`dev-0`, `dev-1` and so on, by number."""
        return tuple(f"dev-{number}" for number in range(self.voters))

    @property
    def observer_ids(self) -> tuple[str, ...]:
        """`obs-0`, `obs-1` and so on, by number."""
        return tuple(f"obs-{number}" for number in range(self.observers))

    @property
    def operator_ids(self) -> tuple[str, ...]:
        """`ops-0`, `ops-1` and so on, by number: members that run no device."""
        return tuple(f"ops-{number}" for number in range(self.operators))

    @property
    def ids(self) -> tuple[str, ...]:
        """All devices, voters first."""
        return self.voter_ids + self.observer_ids

    def behaviour_of(self, device: str) -> Mapping[str, Scalar] | None:
        """Return the behaviour block of a device, None for one that abstains from everything.

        A device's own block lies over the common one: its keys win and the others stay. With a `kind` of its own
        that differs from the common one it replaces it, since options of another kind mean nothing to it.
        """
        override = self.each.get(device)
        own = override.behaviour if override else None
        common = self.behaviour
        if own is None or common is None:
            return own or common
        if own.get("kind", common["kind"]) != common["kind"]:
            return own
        return {**common, **own}


class Latency(msgspec.Struct, frozen=True, kw_only=True):
    """How long a message takes: half of them at most `median_ms`, 99 of 100 at most `p99_ms`."""

    median_ms: DurationMs = msgspec.field(name="median")
    p99_ms: DurationMs = msgspec.field(name="p99")


class Network(msgspec.Struct, frozen=True, kw_only=True):
    """What the network does all the time; probabilities are per delivery."""

    latency: Latency = Latency(median_ms=15, p99_ms=120)
    loss_ppm: Ppm = msgspec.field(name="loss", default=0)
    duplicate_ppm: Ppm = msgspec.field(name="duplicate", default=0)
    reorder_ppm: Ppm = msgspec.field(name="reorder", default=0)


class DiskModel(msgspec.Struct, frozen=True, kw_only=True):
    """What one synced transaction costs in the simulator; real agents have a real disk."""

    sync_ms: DurationMs = msgspec.field(name="sync", default=2)


class ClockModel(msgspec.Struct, frozen=True, kw_only=True):
    """How far apart the simulated devices' clocks run, each within plus or minus `drift_ppm`."""

    drift_ppm: Annotated[int, Between(0, 100_000)] = 50


# ------------------------------------------------------------------------------------------ faults


class _FaultBase(msgspec.Struct, frozen=True, kw_only=True):
    """When a fault happens; `order` is its number in the file and settles what happens first at one time."""

    at_ms: int
    order: int

    @property
    def end_ms(self) -> int:
        """When it ends; a fault that lasts for ever counts from when it happened."""
        return self.at_ms


class _LastingFault(_FaultBase, frozen=True, kw_only=True):
    """A fault with a duration; `for_ms` None lasts to the end of the run."""

    for_ms: int | None = None

    @property
    def end_ms(self) -> int:
        """When it ends."""
        return self.at_ms + (self.for_ms or 0)


class Crash(_FaultBase, frozen=True, kw_only=True):
    """The devices stop at once and lose what was not synced."""

    devices: tuple[str, ...]


class Restart(_FaultBase, frozen=True, kw_only=True):
    """Crashed devices start again from their store."""

    devices: tuple[str, ...]


class Wipe(_FaultBase, frozen=True, kw_only=True):
    """The devices start again without their store."""

    devices: tuple[str, ...]


class Clone(_FaultBase, frozen=True, kw_only=True):
    """A second live device with the key of `device` appears."""

    device: str


class Partition(_FaultBase, frozen=True, kw_only=True):
    """Only devices of one group reach each other; who is in no group is alone."""

    groups: tuple[tuple[str, ...], ...]


class Cut(_FaultBase, frozen=True, kw_only=True):
    """Nothing from `sender` reaches `receivers`; the other direction stays."""

    sender: str
    receivers: tuple[str, ...]


class Heal(_FaultBase, frozen=True, kw_only=True):
    """Every partition and cut ends."""


class Slow(_LastingFault, frozen=True, kw_only=True):
    """Messages to and from the devices take `latency`."""

    devices: tuple[str, ...]
    latency: Latency


class Disk(_LastingFault, frozen=True, kw_only=True):
    """The devices' disks fail in the way that `fault` names."""

    devices: tuple[str, ...]
    fault: str


class Clock(_FaultBase, frozen=True, kw_only=True):
    """The devices' wall clocks jump; monotonic time does not."""

    devices: tuple[str, ...]
    jump_ms: int


class BrokerDown(_LastingFault, frozen=True, kw_only=True):
    """The broker is gone."""


class BrokerImpair(_LastingFault, frozen=True, kw_only=True):
    """The broker mistreats messages; probabilities are per delivery."""

    drop_ppm: int
    duplicate_ppm: int
    reorder_ppm: int
    replay_ppm: int


class Byzantine(_FaultBase, frozen=True, kw_only=True):
    """From then on an attacker runs the device with its key."""

    device: str
    attack: str


class PowerCut(_LastingFault, frozen=True, kw_only=True):
    """The power of the devices goes, and comes back after `for_ms`.

    With `during` it goes in the middle of the next such step that begins at `at_ms` or later: in the bytes of a
    chunk, of an intent, of a swap by the bootloader, of a confirmation.
    """

    devices: tuple[str, ...]
    during: During | None = None


class StolenKeys(_FaultBase, frozen=True, kw_only=True):
    """A thief with `count` release keys signs a release of his own and has `origin` propose it."""

    count: int
    release: str = STOLEN
    origin: str = ""
    """A member whose key is stolen too; empty = the last voter."""


Fault = (
    Crash
    | Restart
    | Wipe
    | Clone
    | Partition
    | Cut
    | Heal
    | Slow
    | Disk
    | Clock
    | BrokerDown
    | BrokerImpair
    | Byzantine
    | PowerCut
    | StolenKeys
)
"""The closed set of faults; a `match` over it ends in `assert_never`."""

_FAULT_KEYS: Final[Mapping[type[_FaultBase], str]] = {
    Crash: "crash",
    Restart: "restart",
    Wipe: "wipe",
    Clone: "clone",
    Partition: "partition",
    Cut: "cut",
    Heal: "heal",
    Slow: "slow",
    Disk: "disk",
    Clock: "clock",
    BrokerDown: "broker",
    BrokerImpair: "broker",
    Byzantine: "byzantine",
    PowerCut: "power_cut",
    StolenKeys: "stolen_keys",
}


def fault_key(fault: Fault) -> str:
    """Return the key of a fault's line: `crash`, `broker` and so on."""
    return _FAULT_KEYS[type(fault)]


# ------------------------------------------------------------------------------------------ workload, expect


class Decide(msgspec.Struct, frozen=True, kw_only=True):
    """One decision to open; `options` for rules that choose, `scale` for rules over numbers."""

    subject: str
    rule: str
    deadline_ms: int
    options: tuple[str, ...] = ()
    scale: int | None = None
    eligible: str | tuple[str, ...] = "voters"
    """`voters`, `all`, or the ids of devices."""


class SubmitShape(msgspec.Struct, frozen=True, kw_only=True):
    """How large the submissions of a workload line are: `commands` commands of `bytes` bytes each."""

    bytes: Annotated[int, Between(1, COMMAND_BYTES_MAX)]
    commands: Annotated[int, Between(1, SUBMISSION_COMMANDS_MAX)] = 1


class WorkLine(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the workload, done `count` times in every `period_ms`, evenly.

    `origin` None means round-robin over the devices that are up, which the engine resolves during the run.
    """

    count: int
    period_ms: int
    action: Decide | SubmitShape
    origin: str | None = None


class ExpectDecisions(msgspec.Struct, frozen=True, kw_only=True):
    """What is expected of the decisions on one subject.

    `closed_min` counts decisions that closed with an outcome other than undecided; every one of these has a number
    in [min, max], or the option `outcome`.
    """

    min: float | None = None
    max: float | None = None
    outcome: str | None = None
    closed_min: Annotated[int, Between(0, NUMBER_MAX)] | None = None


class Expect(msgspec.Struct, frozen=True, kw_only=True):
    """What must hold at the end; None is not asked. `convicted` is exact: no innocent may be convicted."""

    committed_min: Annotated[int, Between(0, NUMBER_MAX)] | None = None
    commit_p95_max_ms: PositiveMs | None = msgspec.field(name="commit_p95_max", default=None)
    caught_up_within_ms: PositiveMs | None = msgspec.field(name="caught_up_within", default=None)
    convicted: Annotated[tuple[str, ...], Reads(partial(read_names, may_be_empty=True))] | None = None
    decisions: Mapping[str, ExpectDecisions] = {}
    firmware: ExpectFirmware | None = None


# ------------------------------------------------------------------------------------------ scenario


class Scenario(msgspec.Struct, frozen=True, kw_only=True):
    """One experiment, checked: every device that it names exists, every fault has its time within the run.

    `source` is the file's name, `faults` are sorted by time and then by their order in the file.
    """

    source: str
    name: str
    description: str
    seed: int
    duration_ms: int
    devices: Devices
    budget: Budget
    network: Network
    disk: DiskModel
    clock: ClockModel
    cpu: str
    faults: tuple[Fault, ...]
    workload: tuple[WorkLine, ...]
    expect: Expect
    firmware: FirmwareModel | None = None
    orders: tuple[FirmwareOrder, ...] = ()
    behaviour_lines: Mapping[str, int] = {}
    """Lines of the behaviour blocks and of their options by key path: they are judged when they are built."""

    @property
    def last_fault_end_ms(self) -> int:
        """When the last fault ends, 0 without faults: `caught_up_within` counts from here."""
        return max((fault.end_ms for fault in self.faults), default=0)

    @property
    def byzantine(self) -> tuple[str, ...]:
        """The devices that an attacker runs at some time, sorted; nothing is promised about them."""
        return tuple(sorted({fault.device for fault in self.faults if isinstance(fault, Byzantine)}))


def check_engine(scenario: Scenario, engine: str) -> None:
    """Raise `ConfigError` naming the first thing in the scenario that `engine` cannot perform.

    Call it before a run; a fault that an engine cannot perform is never ignored.
    """
    if engine not in SUPPORTED_FAULTS:
        raise ConfigError(f"unknown engine {engine!r}", where="--engine", hint="sim or mqtt")

    def refuse(where: str, what: str) -> ConfigError:
        others = [name for name in SUPPORTED_FAULTS if name != engine]
        return ConfigError(
            f"{what} is not supported by engine {engine!r}",
            where=f"{scenario.source}: {where}",
            hint=f"try --engine {others[0]}",
        )

    if engine != "sim" and scenario.firmware is not None:
        raise refuse("firmware", "firmware")
    if engine != "sim" and scenario.devices.operators:
        raise refuse("devices.operators", "an operator")
    if engine != "sim" and scenario.devices.gather_ms:
        raise refuse("devices.gather", "gather")
    for fault in scenario.faults:
        key = fault_key(fault)
        if key not in SUPPORTED_FAULTS[engine]:
            raise refuse(f"faults[{fault.order}].{key}", f"fault {key!r}")
        if isinstance(fault, Byzantine) and fault.attack not in SUPPORTED_ATTACKS[engine]:
            raise refuse(f"faults[{fault.order}].byzantine.attack", f"attack {fault.attack!r}")
    if scenario.cpu not in SUPPORTED_CPUS[engine]:
        raise refuse("cpu", f"cpu {scenario.cpu!r}")
    for device in scenario.devices.ids if engine == "sim" else ():
        block = scenario.devices.behaviour_of(device)
        if block is not None and block["kind"] in SIMULATOR_REFUSES_KINDS:
            own = device in scenario.devices.each
            where = f"devices.each.{device}.behaviour.kind" if own else "devices.behaviour.kind"
            raise refuse(where, f"behaviour {block['kind']!r} reads this machine and")
