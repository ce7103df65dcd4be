"""Signed presence on the retained status topic: birth, last will, farewell. A hint for people and never a proof.

The broker keeps and repeats these texts as it likes. The signature only says that the device once wrote them; the boot
number inside lets a reader put aside what an earlier start of the device left behind, such as an old last will.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Final

import msgspec

from swarm.crypto.keys import KeyPair
from swarm.crypto.signing import SIGNATURE_BYTES, sign, verify
from swarm.primitives.errors import DecodeError
from swarm.primitives.ids import DeviceId
from swarm.primitives.limits import NUMBER_MAX
from swarm.transport.mqtt import Presence
from swarm.wire.genesis import Genesis

PRESENCE_BYTES_MAX: Final = 512
"""One status payload: an id of 32, a number, a signature in hexadecimal digits."""

_CONTEXT: Final = b"swarm/1 presence\0"
"""Every other signed text begins with `swarm/1` and a zero byte, so none can be taken for another."""


class PresenceState(StrEnum):
    """What a device says about itself, or left with the broker to be said."""

    ONLINE = "online"
    OFFLINE = "offline"
    """It left by itself."""
    LOST = "lost"
    """The broker lost it: the last will."""


@dataclass(frozen=True, slots=True)
class PresenceClaim:
    """A verified status text: `device` wrote it during its start number `boot`."""

    device: DeviceId
    state: PresenceState
    boot: int


class _Status(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    state: PresenceState
    device: str
    boot: Annotated[int, msgspec.Meta(ge=0, le=NUMBER_MAX)]
    sig: Annotated[str, msgspec.Meta(pattern=f"^[0-9a-f]{{{2 * SIGNATURE_BYTES}}}$")]


_DECODER: Final = msgspec.json.Decoder(_Status)


def sign_presence(swarm_id: bytes, device: DeviceId, keypair: KeyPair, boot: int) -> Presence:
    """Return the three payloads of one start of `device`, signed; `boot` is its durable boot number."""

    def payload(state: PresenceState) -> bytes:
        signature = sign(keypair, _signed_text(swarm_id, PresenceClaim(device, state, boot)))
        return msgspec.json.encode(_Status(state=state, device=device, boot=boot, sig=signature.hex()))

    return Presence(
        birth=payload(PresenceState.ONLINE),
        will=payload(PresenceState.LOST),
        offline=payload(PresenceState.OFFLINE),
    )


def read_presence(payload: bytes, genesis: Genesis, topic_sender: DeviceId) -> PresenceClaim:
    """Return what a status payload claims; believe no more of it than "the device wrote this once".

    Raises `DecodeError` (oversized, malformed, unknown-sender, topic-sender-mismatch, bad-signature).
    """
    if len(payload) > PRESENCE_BYTES_MAX:
        raise DecodeError("oversized")
    try:
        status = _DECODER.decode(payload)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise DecodeError("malformed", str(error)) from None
    member = genesis.member(topic_sender)
    if member is None:
        raise DecodeError("unknown-sender")
    if status.device != topic_sender:
        raise DecodeError("topic-sender-mismatch")
    claim = PresenceClaim(topic_sender, status.state, status.boot)
    if not verify(member.key, _signed_text(genesis.id, claim), bytes.fromhex(status.sig)):
        raise DecodeError("bad-signature")
    return claim


class PresenceBoard:
    """The newest claim of each member, by boot number; bounded by the members of genesis."""

    def __init__(self, genesis: Genesis) -> None:
        """Know nothing yet."""
        self._genesis = genesis
        self._claims: dict[DeviceId, PresenceClaim] = {}
        self.dropped: dict[str, int] = {}

    def hear(self, topic_sender: DeviceId, payload: bytes) -> PresenceClaim | None:
        """Take in a status payload; returns the claim, None for garbage (counted) and for words of an earlier start."""
        try:
            claim = read_presence(payload, self._genesis, topic_sender)
        except DecodeError as error:
            self.dropped[error.reason] = self.dropped.get(error.reason, 0) + 1
            return None
        known = self._claims.get(claim.device)
        if known is not None and claim.boot < known.boot:
            self.dropped["outdated"] = self.dropped.get("outdated", 0) + 1
            return None
        self._claims[claim.device] = claim
        return claim

    def claims(self) -> tuple[PresenceClaim, ...]:
        """Return what is known, by device id."""
        return tuple(self._claims[device] for device in sorted(self._claims))


def _signed_text(swarm_id: bytes, claim: PresenceClaim) -> bytes:
    words = f"{claim.boot}\0{claim.state}\0{claim.device}"
    return _CONTEXT + swarm_id + words.encode()
