"""The section `firmware` of an `agent.yaml`: what kind of device it is, where its slots are, and whose wishes it follows."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Final, Literal

import msgspec

from swarm.device.firmware.policy import Firmware, FirmwarePolicy
from swarm.install.identity import class_id, vendor_id
from swarm.primitives.limits import CHUNK_BYTES_MAX, MEMBERS_MAX
from swarm.primitives.settings import Node, Reads, convert, describe, entries_of

_RATE: Final = re.compile(r"([0-9]{1,9})(B|KiB|MiB|kB|MB)/s")
_UNITS: Final = {"B": 1, "kB": 1_000, "MB": 1_000_000, "KiB": 1024, "MiB": 1024 * 1024}
_RATE_MAX: Final = 1024 * 1024 * 1024


class FirmwareSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What the section says; `root` is resolved, None = the launcher knows. Vendor and class are 16 bytes each."""

    root: Path | None
    vendor: bytes
    device_class: bytes
    policy: FirmwarePolicy
    chunk_bytes_per_s: int | None

    @property
    def firmware(self) -> Firmware:
        """What the device is told."""
        return Firmware(
            class_id=self.vendor + self.device_class,
            policy=self.policy,
            chunk_bytes_per_s=self.chunk_bytes_per_s,
        )


def read_approve(node: Node) -> Literal["auto"] | int:
    """Return `auto`, or how many operators must ask for the same."""
    if node.value == "auto":
        return "auto"
    if isinstance(node.value, bool) or not isinstance(node.value, int):
        raise node.error(
            f"must be auto or a number of operators, got {describe(node)}",
            hint="1 follows one operator's wish",
        )
    if not 1 <= node.value <= MEMBERS_MAX:
        raise node.error(f"must be auto or 1 to {MEMBERS_MAX} operators, got {node.value}")
    return node.value


def read_bytes_per_s(node: Node) -> int:
    """Return a rate such as `512KiB/s` or `1MB/s` in bytes per second: at least one chunk of the largest size."""
    match = _RATE.fullmatch(node.value) if isinstance(node.value, str) else None
    rate = int(match[1]) * _UNITS[match[2]] if match else 0
    if not CHUNK_BYTES_MAX <= rate <= _RATE_MAX:
        raise node.error(
            f"{describe(node)} is no rate of {CHUNK_BYTES_MAX // 1024}KiB/s to 1024MiB/s",
            hint="such as 512KiB/s or 1MiB/s",
        )
    return rate


class _Keys(msgspec.Struct, frozen=True, kw_only=True):
    backend: Literal["directory"]
    root: str | None = None
    vendor: str
    class_text: str = msgspec.field(name="class")
    approve: Annotated[Literal["auto"] | int, Reads(read_approve)] = 1
    obey_halt: bool = True
    chunk_rate: Annotated[int, Reads(read_bytes_per_s)] | None = None


def read_firmware(node: Node, folder: Path) -> FirmwareSettings:
    """Return the settings of a section; raises `ConfigError` with file, line and key path."""
    keys = convert(node, _Keys)
    if keys.root is not None and (not keys.root or "\0" in keys.root):
        raise entries_of(node)["root"].error("must be a path")
    vendor = vendor_id(keys.vendor, where=node.locate("vendor"))
    return FirmwareSettings(
        root=None if keys.root is None else folder / keys.root,
        vendor=vendor,
        device_class=class_id(vendor, keys.class_text, where=node.locate("class")),
        policy=FirmwarePolicy(approve=keys.approve, obey_halt=keys.obey_halt),
        chunk_bytes_per_s=keys.chunk_rate,
    )
