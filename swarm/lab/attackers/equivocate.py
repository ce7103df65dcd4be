"""equivocate: signs a second vote in every view and sends one to this half of the swarm, the other to that."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

from swarm.crypto.digest import sha256
from swarm.crypto.signing import sign
from swarm.device.device import Device
from swarm.device.turn import OutFrame, Turn, TurnInput
from swarm.lab.attackers.insider import Insider
from swarm.transport.topics import Scope
from swarm.wire.messages import Item, decode_frame, encode_frame
from swarm.wire.statements import Kind, SignedStatement, statement_bytes


class Equivocate:
    """Everything is as of a correct device, but each N that it signs has a twin on another block."""

    name: ClassVar[str] = "equivocate"
    keeps_firmware: ClassVar[bool] = True

    def __init__(self, insider: Insider) -> None:
        """Know whom to tell what."""
        self._insider = insider
        others = [name for name in insider.genesis.voter_ids if name != insider.id]
        self._deceived = others[: len(others) // 2]

    def change(self, turn: Turn) -> Turn:
        """Add a frame with the twins for every deceived voter."""
        twins: list[Item] = []
        for frame in turn.frames:
            if frame.scope is Scope.ALL:
                items = decode_frame(frame.payload)
                twins.extend(
                    self._twin(item) for item in items if isinstance(item, SignedStatement) and _is_vote(item)
                )
        if not twins:
            return turn
        payload = encode_frame(tuple(twins))
        lies = tuple(OutFrame(Scope.TO, name, payload) for name in self._deceived)
        return replace(turn, frames=(*lies, *turn.frames))

    def act(self, device: Device, now_ms: int) -> tuple[tuple[TurnInput, ...], int | None]:
        """Say nothing of its own."""
        del device, now_ms
        return (), None

    def _twin(self, item: SignedStatement) -> SignedStatement:
        digest = sha256(b"twin", item.digest)
        message = statement_bytes(self._insider.genesis.id, item.kind, item.epoch, item.number, digest)
        return SignedStatement(
            kind=item.kind,
            epoch=item.epoch,
            number=item.number,
            digest=digest,
            voter=item.voter,
            signature=sign(self._insider.keypair, message),
        )


def _is_vote(item: SignedStatement) -> bool:
    return item.kind == Kind.NOTARIZE
