"""What a scenario says about firmware: its releases and how they behave, who signs, what people ask for and when."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Final, Literal

import msgspec

from swarm.apps.rollout.spec import PlanSpec
from swarm.install.identity import class_id, vendor_id
from swarm.primitives.limits import CHUNK_BYTES_MIN, NUMBER_MAX
from swarm.primitives.settings import Between

VENDOR: Final = "scenario.example"
"""The vendor of every simulated device."""

CLASS_DEFAULT: Final = "device"
"""The class of all devices where a scenario names none."""

FACTORY: Final = "factory"
"""What result and table call the image that every device begins with; it has number 1 and counter 0."""

FACTORY_NUMBER: Final = 1

STOLEN: Final = "stolen"
"""The release that a thief makes where `stolen_keys` names none."""

IMAGE_BYTES_DEFAULT: Final = 12_000
"""Three chunks of 4 KiB: small, so that a run is about the rollout and not about bytes."""

Behaviour = Literal["healthy", "crash", "hang", "brick", "lie", "bomb", "equivocate"]

BEHAVIOURS: Final[Mapping[Behaviour, str]] = {
    "healthy": "does its work",
    "crash": "ends itself soon after every start",
    "hang": "stands still soon after every start, until the watchdog bites",
    "brick": "feeds the watchdog and does nothing else, for ever",
    "lie": "says that it is healthy and takes part in nothing",
    "bomb": "is healthy until so long after a start, then as brick",
    "equivocate": "signs two votes for one view",
}
"""What an image may do to the device that runs it."""

During = Literal["fetch", "arm", "swap", "confirm"]

DURING: Final[tuple[During, ...]] = ("fetch", "arm", "swap", "confirm")
"""Where a power cut may strike; without one it strikes at its time, whatever the device does then."""

OrderKind = Literal[
    "propose",
    "approve",
    "plan",
    "go",
    "halt",
    "resume",
    "rollback",
    "abandon",
    "revoke",
    "consent",
    "keys",
]

ORDERS: Final[tuple[OrderKind, ...]] = (
    "propose",
    "approve",
    "plan",
    "go",
    "halt",
    "resume",
    "rollback",
    "abandon",
    "revoke",
    "consent",
    "keys",
)
"""What a `firmware` line of the workload may ask for."""

VOTERS_ALL: Final = "voters"
"""Origin of an order that every correct voter logs for itself."""


class KeysModel(msgspec.Struct, frozen=True, kw_only=True):
    """`k` of `n` release keys make a release."""

    k: int
    n: int


class ReleaseModel(msgspec.Struct, frozen=True, kw_only=True):
    """One release that somebody may propose, or the image that a thief makes."""

    name: str
    behaves: Behaviour
    bomb_ms: int = 0
    """Of a bomb: so long after a start."""
    class_name: str = CLASS_DEFAULT
    number: int
    counter: int = 0
    oldest: int = 0
    """Lowest number that it may follow."""
    use_before: int = 0
    """Height above which it gets no permit; 0 = never ends."""
    image_bytes: int = IMAGE_BYTES_DEFAULT
    chunk_bytes: int = CHUNK_BYTES_MIN
    needs: Mapping[str, int] = {}
    """Class name -> number that its newest completed release must have."""


class FirmwareModel(msgspec.Struct, frozen=True, kw_only=True):
    """The section `firmware`."""

    keys: KeysModel
    classes: Mapping[str, tuple[str, ...]]
    """Class name -> devices; every device stands in exactly one."""
    releases: Mapping[str, ReleaseModel]
    approve: str | int = 1
    """`auto`, or after how many operators a voter follows a wish."""
    obey_halt: bool = True
    t_arm_ms: int = 60_000
    """How old an own entry may be that the certificate to act rests on (W5)."""

    def class_of(self, device: str) -> str:
        """Return the name of the class of a device."""
        return next(name for name, devices in self.classes.items() if device in devices)


def class_ids(name: str) -> tuple[bytes, bytes]:
    """Return vendor and class UUID (16 bytes each) of a scenario's class."""
    vendor = vendor_id(VENDOR)
    return vendor, class_id(vendor, name)


class FirmwareOrder(msgspec.Struct, frozen=True, kw_only=True):
    """One `firmware` line of the workload: who asks for what, once.

    `origin` is an operator, a device, or `voters`. `order` is the line's number in the file.
    """

    at_ms: int
    order: int
    what: OrderKind
    origin: str
    release: str = ""
    class_name: str = ""
    """Of a `halt` that stops a whole class."""
    device: str = ""
    without: tuple[str, ...] = ()
    spec: PlanSpec | None = None
    signers: int | None = None
    """How many release keys sign; None = as many as are needed."""
    keys: KeysModel | None = None


Count = Annotated[int, Between(0, NUMBER_MAX)]

PlanStates = Literal[
    "planned", "active", "frozen", "rolling back", "rolled back", "completed", "abandoned", "none"
]

PLAN_STATES: Final = (
    "planned",
    "active",
    "frozen",
    "rolling back",
    "rolled back",
    "completed",
    "abandoned",
    "none",
)
"""What `expect.firmware.state` may name; `none` = nothing is planned."""

RELEASE_STATES: Final = ("proposed", "approved", "revoked", "voided", "contradicted", "suspended", "unknown")
"""What `expect.firmware.releases` may name; `unknown` = the log holds no such release."""


class ExpectFirmware(msgspec.Struct, frozen=True, kw_only=True):
    """What must be so at the end; None is not asked.

    `state` and `halted_by` are of the plan that was made last; `halted_by: failed` fits `failed:dev-1` too.
    `running` counts the devices that truly run a release, whatever the log believes; `factory` is the first image.
    """

    state: str | None = None
    running: Mapping[str, Count] = {}
    halted_by: str | None = None
    at_risk_max: Count | None = None
    releases: Mapping[str, str] = {}
