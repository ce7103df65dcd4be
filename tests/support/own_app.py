"""An application of a user's own, for swarms that have one."""

from __future__ import annotations

from swarm.apps.application import Application, Context, Event


class Inventory(Application):
    """Counts its commands."""

    name = "inventory"
    version = 1

    def __init__(self) -> None:
        self.count = 0

    def apply(self, context: Context, body: bytes) -> tuple[Event, ...]:
        del context
        self.count += 1
        return (Event(body),)

    def snapshot(self) -> bytes:
        return self.count.to_bytes(8, "big")

    def restore(self, state: bytes) -> None:
        self.count = int.from_bytes(state, "big")

    def query(self, question: bytes) -> bytes:
        return question
