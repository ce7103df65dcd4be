"""What an attacker holds who runs a device with its key, and how it acts through that device."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import ClassVar, Final, Protocol

from swarm.apps.rollout.entries import Command, encode_command
from swarm.apps.rollout.state import State
from swarm.crypto.keys import KeyPair
from swarm.device.device import Device
from swarm.device.turn import Submit, Turn, TurnInput
from swarm.wire.genesis import Genesis

PATIENCE_MS: Final = 3_000
"""So long an attacker waits before it says again what had no effect."""


class Attack(Protocol):
    """A wrapper around a device's turns that does what a correct device would not."""

    name: ClassVar[str]

    def change(self, turn: Turn) -> Turn:
        """Return what leaves the device instead of `turn`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Insider:
    """The device in an attacker's hands. `class_id` and `digest` (32 bytes each) are what it began with."""

    id: str
    keypair: KeyPair
    genesis: Genesis
    seed: int
    class_id: bytes = b""
    digest: bytes = b""

    @property
    def is_voter(self) -> bool:
        """Whether the device votes."""
        return self.genesis.voter_index(self.id) is not None


class InsiderAttack(Attack, Protocol):
    """An attack that also speaks for the device."""

    keeps_firmware: ClassVar[bool]
    """Whether the device still carries out its own updates and votes."""

    def act(self, device: Device, now_ms: int) -> tuple[tuple[TurnInput, ...], int | None]:
        """Return what the attacker adds after a turn, and when it wants to look again (device time, None = never)."""


class Speaker:
    """Puts commands of `rollout` on the log as the device's own, each once in a while."""

    def __init__(self) -> None:
        """Nothing said yet."""
        self._said: dict[Hashable, int] = {}
        self._queue: list[TurnInput] = []
        self._wake_at_ms: int | None = None

    def say(self, key: Hashable, command: Command, now_ms: int, *, again_ms: int = PATIENCE_MS) -> bool:
        """Say `command`, unless `key` was said less than `again_ms` ago; then look again. Answer whether it was said."""
        due = self._said.get(key)
        if due is not None and now_ms < due:
            self.wake(due)
            return False
        self._said[key] = now_ms + again_ms
        self._queue.append(Submit("rollout", encode_command(command)))
        return True

    def say_once(self, key: Hashable, command: Command) -> bool:
        """Say `command` if `key` was never said."""
        if key in self._said:
            return False
        self._said[key] = 0
        self._queue.append(Submit("rollout", encode_command(command)))
        return True

    def wake(self, at_ms: int) -> None:
        """Look again at `at_ms` at the latest."""
        if self._wake_at_ms is None or at_ms < self._wake_at_ms:
            self._wake_at_ms = at_ms

    def take(self) -> tuple[tuple[TurnInput, ...], int | None]:
        """Return what was said, and when to look again."""
        queue, self._queue = tuple(self._queue), []
        wake_at_ms, self._wake_at_ms = self._wake_at_ms, None
        return queue, wake_at_ms


def rollout_state(device: Device) -> State | None:
    """Return what the device's log says of firmware, None in a swarm without it."""
    rollout = device.ledger.router.rollout
    return None if rollout is None else rollout.state
