"""What an agent says as it goes: one line for people, or one JSON object for programs, for each thing that happened."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec

from swarm.agent.firmware_lines import firmware_line
from swarm.apps.decisions.rules import Outcome
from swarm.device import events
from swarm.device.turn import DeviceEvent
from swarm.primitives.ids import DeviceId
from swarm.transport.transport import ConnectionState, Link
from swarm.wire.genesis import Genesis

_KIND_WORDS: Final = {"P": "proposed two blocks", "N": "notarized two blocks", "F": "finalized two blocks"}


_ORDINARY_DROPS: Final = frozenset(
    {"duplicate", "stale", "late", "above-window", "unwanted-block", "unwanted-envelope"}
)
"""What a swarm without any attacker refuses too: copies, late votes, answers that came twice."""


class Announcer:
    """Turns events and changes of the connection into lines for people.

    `say` gets what went as it should, `complain` what somebody may have to look at.
    """

    def __init__(
        self,
        genesis: Genesis,
        me: DeviceId,
        *,
        say: Callable[[str], None],
        complain: Callable[[str], None],
    ) -> None:
        """Speak for `me`."""
        self._genesis = genesis
        self._who = f"{me} of {genesis.swarm}"
        self._say = say
        self._complain = complain
        self._seen: dict[DeviceId, None] = {me: None} if me in genesis.voter_ids else {}
        self._was_connected = False
        self._stalled = False
        self._me = me

    def introduce(self) -> None:
        """Say who this is, and what its swarm survives."""
        member = self._genesis.member(self._me)
        role = "unknown" if member is None else member.role
        self._say(f"{self._who}: {role}; {self._genesis.budget.in_words()}")

    def on_link(self, state: ConnectionState) -> None:
        """Say what became of the connection; the transport reports each change once."""
        match state.link:
            case Link.CONNECTED:
                again = "reconnected" if self._was_connected else "connected"
                self._was_connected = True
                self._say(f"{self._who}: {again} to {state.reason}")
                self._say_seen()
            case Link.SUBSCRIPTION_REFUSED:
                self._complain(f"{self._who}: {state.reason}; it hears nobody there")
            case _:
                self._complain(f"{self._who}: {state.reason}; trying again")

    def on_event(self, event: DeviceEvent) -> None:
        """Say what the device reported, as far as people want to know."""
        data = dict(event.data)
        match event.kind:
            case events.HEARD:
                self._hear(str(data["device"]))
            case events.SILENT:
                devices = data["devices"]
                self._miss(devices if isinstance(devices, tuple) else ())
            case events.CLOSED:
                if isinstance(outcome := data["outcome"], Outcome):
                    self._say(outcome_line(outcome))
            case events.FINALIZED:
                if self._stalled:
                    self._stalled = False
                    self._say(f"{self._who}: going on, height {data['height']}")
            case events.STANDSTILL:
                if not self._stalled:
                    self._stalled = True
                    self._complain(f"{self._who}: nothing finalized for a while in view {data['view']}")
            case events.EVIDENCE:
                self._complain(f"{self._who}: {data['voter']} is convicted: {_conviction(data)}")
            case events.REJECTED:
                if data["own"]:
                    self._complain(f"{self._who}: {data['app']} refused an own command: {data['reason']}")
            case events.DROPPED:
                self._say_dropped(data["counts"])
            case events.FIRMWARE:
                line = firmware_line(data)
                if line is not None:
                    (self._complain if line.is_complaint else self._say)(f"{self._who}: {line.text}")
            case events.ALARM:
                self._complain(f"{self._who}: ALARM: {data['what']}")
            case _:
                pass

    def _say_dropped(self, counts: object) -> None:
        """Complain of what is never normal; copies and late votes are."""
        pairs = counts if isinstance(counts, tuple) else ()
        odd = [f"{reason} {number}" for reason, number in pairs if reason not in _ORDINARY_DROPS]
        if odd:
            self._complain(f"{self._who}: refused since the last heartbeat: {', '.join(odd)}")

    def _hear(self, device: DeviceId) -> None:
        if device not in self._genesis.voter_ids or device in self._seen:
            return
        before = len(self._seen)
        self._seen[device] = None
        if before < self._genesis.budget.q:
            self._say_seen()

    def _miss(self, devices: tuple[DeviceId, ...]) -> None:
        """Complain once when too few voters are left; what comes back is said as at the start."""
        needed = self._genesis.budget.q
        had_quorum = len(self._seen) >= needed
        for device in devices:
            self._seen.pop(device, None)
        if had_quorum and len(self._seen) < needed:
            self._complain(f"{self._who}: quorum lost, {len(self._seen)} of {needed} voters seen, waiting")

    def _say_seen(self) -> None:
        needed = self._genesis.budget.q
        if len(self._seen) >= needed:
            self._say(f"{self._who}: quorum up")
        else:
            self._say(f"{self._who}: {len(self._seen)} of {needed} voters seen, waiting")


def outcome_line(outcome: Outcome) -> str:
    """Return one line about a closed decision: `temperature = 21.04 (median of 4, margin 1 liar) height 12`."""
    where = f"height {outcome.closed_height}"
    if outcome.value is None:
        counted = f"{outcome.counted} of {outcome.eligible} balloted"
        return f"{outcome.subject} undecided: {outcome.reason} ({outcome.rule}, {counted}) {where}"
    margin = outcome.margin or 0
    liars = "no liar" if margin == 0 else "1 liar" if margin == 1 else f"{margin} liars"
    return (
        f"{outcome.subject} = {outcome.value_in_words()}"
        f" ({outcome.rule} of {outcome.counted}, margin {liars}) {where}"
    )


def event_json(event: DeviceEvent) -> str:
    """Return the event as one line of JSON; bytes as hexadecimal digits, an outcome as an object."""
    line = {"event": event.kind, "at_ms": event.at_ms, **{key: _plain(value) for key, value in event.data}}
    return msgspec.json.encode(line).decode()


def link_json(state: ConnectionState, at_ms: int) -> str:
    """Return a change of the connection as one line of JSON."""
    line = {"event": "link", "at_ms": at_ms, "link": state.link.value, "reason": state.reason}
    return msgspec.json.encode(line).decode()


def _plain(value: object) -> object:
    match value:
        case bytes():
            return value.hex()
        case Outcome():
            fields = {name: _plain(getattr(value, name)) for name in value.__struct_fields__}
            return {**fields, "words": value.value_in_words()}
        case tuple() | list():
            return [_plain(part) for part in value]
        case _:
            return value


def _conviction(data: dict[str, object]) -> str:
    kinds = str(data["kinds"])
    words = _KIND_WORDS.get(kinds[:1]) if kinds[:1] == kinds[1:] else "voted to finalize and to skip"
    return f"{words or kinds} in view {data['view']}"
