"""What the owner of a device decides about firmware: whose wishes it follows, and how it fetches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

T_ARM_MS_DEFAULT: Final = 60_000
"""How old an own entry may be that the attestations of a certificate to act cover (W5)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FirmwarePolicy:
    """Whose wishes this device answers with its own entry (FIRMWARE section 1).

    `approve`: so many operators must ask for the same, 1 or more; `auto` = a release needs nobody. `obey_halt`: one
    operator's halt is followed.
    """

    approve: Literal["auto"] | int = 1
    obey_halt: bool = True

    @property
    def operators(self) -> int:
        """How many operators must ask for what takes voters down: rollback, revocation, consent, keys."""
        return 1 if self.approve == "auto" else self.approve


@dataclass(frozen=True, slots=True, kw_only=True)
class Firmware:
    """A device that can be updated. `class_id` = vendor and class UUID (32 bytes)."""

    class_id: bytes
    policy: FirmwarePolicy = FirmwarePolicy()
    t_arm_ms: int = T_ARM_MS_DEFAULT
    chunk_bytes_per_s: int | None = None
    """What it serves to peers at most; None = what is left beside votes."""
