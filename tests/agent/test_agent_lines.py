"""What an agent says: lines for people, each thing once, and JSON for programs."""

from __future__ import annotations

import json

import msgspec

from swarm.agent.lines import Announcer, event_json, link_json, outcome_line
from swarm.device.turn import DeviceEvent
from swarm.transport.transport import ConnectionState, Link
from tests.support.swarms import make_genesis
from tests.support.vectors import OUTCOME

GENESIS = make_genesis(4, observers=1)
UP = ConnectionState(Link.CONNECTED, "mqtt://broker:1883")


class Speech:
    def __init__(self, me: str = "dev-0") -> None:
        self.said: list[str] = []
        self.complaints: list[str] = []
        self.announcer = Announcer(GENESIS, me, say=self.said.append, complain=self.complaints.append)

    def happens(self, kind: str, **data: object) -> None:
        self.announcer.on_event(DeviceEvent(kind, 0, tuple(data.items())))


def test_the_budget_stands_in_the_first_line() -> None:
    speech = Speech()
    speech.announcer.introduce()
    assert speech.said == [f"dev-0 of test: voter; {GENESIS.budget.in_words()}"]


def test_a_quorum_counts_the_device_itself_and_is_said_once() -> None:
    speech = Speech()
    speech.announcer.on_link(UP)
    for device in ("dev-1", "obs-0", "dev-1", "dev-2", "dev-3"):
        speech.happens("heard", device=device)
    assert speech.said == [
        "dev-0 of test: connected to mqtt://broker:1883",
        "dev-0 of test: 1 of 3 voters seen, waiting",
        "dev-0 of test: 2 of 3 voters seen, waiting",
        "dev-0 of test: quorum up",
    ]
    assert speech.complaints == []


def test_a_lost_quorum_is_said_once_and_its_return_as_at_the_start() -> None:
    speech = Speech()
    speech.announcer.on_link(UP)
    for device in ("dev-1", "dev-2", "dev-3"):
        speech.happens("heard", device=device)
    speech.said.clear()
    speech.happens("silent", devices=("obs-0",))
    speech.happens("silent", devices=("dev-3",))
    assert speech.complaints == [], "three of three are still seen"
    speech.happens("silent", devices=("dev-1", "dev-2"))
    speech.happens("silent", devices=("dev-2",))
    assert speech.complaints == ["dev-0 of test: quorum lost, 1 of 3 voters seen, waiting"]
    speech.happens("heard", device="dev-3")
    speech.happens("heard", device="dev-1")
    speech.happens("heard", device="dev-2")
    assert speech.said == [
        "dev-0 of test: 2 of 3 voters seen, waiting",
        "dev-0 of test: quorum up",
    ]


def test_an_observer_does_not_count_itself() -> None:
    speech = Speech("obs-0")
    speech.announcer.on_link(UP)
    assert speech.said[-1] == "obs-0 of test: 0 of 3 voters seen, waiting"


def test_the_connection_is_lost_and_found_in_words() -> None:
    speech = Speech()
    speech.announcer.on_link(ConnectionState(Link.REFUSED, "the broker refuses the login: bad password"))
    speech.announcer.on_link(UP)
    speech.announcer.on_link(ConnectionState(Link.LOST, "connection lost"))
    speech.announcer.on_link(UP)
    assert speech.complaints == [
        "dev-0 of test: the broker refuses the login: bad password; trying again",
        "dev-0 of test: connection lost; trying again",
    ]
    assert [line for line in speech.said if "connected" in line] == [
        "dev-0 of test: connected to mqtt://broker:1883",
        "dev-0 of test: reconnected to mqtt://broker:1883",
    ]


def test_outcomes_in_a_line_each() -> None:
    number = msgspec.structs.replace(
        OUTCOME, subject="temperature", rule="median", kind="number", value=2104, scale=2, options=(),
        margin=1, ballots=(("dev-0", 2104), ("dev-1", 2103), ("dev-2", None)), eligible=4, closed_height=12,
    )  # fmt: skip
    assert outcome_line(number) == "temperature = 21.04 (median of 2, margin 1 liar) height 12"
    assert "margin no liar" in outcome_line(msgspec.structs.replace(number, margin=0))
    assert "margin 2 liars" in outcome_line(msgspec.structs.replace(number, margin=2))
    undecided = msgspec.structs.replace(
        number, kind="undecided", value=None, margin=None, reason="too few ballots"
    )
    assert (
        outcome_line(undecided)
        == "temperature undecided: too few ballots (median, 2 of 4 balloted) height 12"
    )


def test_a_standstill_is_said_once_and_its_end_too() -> None:
    speech = Speech()
    speech.happens("standstill", view=7)
    speech.happens("standstill", view=7)
    speech.happens("finalized", height=3)
    speech.happens("finalized", height=4)
    assert speech.complaints == ["dev-0 of test: nothing finalized for a while in view 7"]
    assert speech.said == ["dev-0 of test: going on, height 3"]


def test_convictions_refusals_and_alarms_are_complaints() -> None:
    speech = Speech()
    speech.happens("evidence", voter="dev-3", kinds="NN", view=9)
    speech.happens("evidence", voter="dev-3", kinds="FK", view=9)
    speech.happens("rejected", app="notes", reason="empty", own=False)
    speech.happens("rejected", app="notes", reason="empty", own=True)
    speech.happens("alarm", what="attestations of one height differ")
    assert speech.complaints == [
        "dev-0 of test: dev-3 is convicted: notarized two blocks in view 9",
        "dev-0 of test: dev-3 is convicted: voted to finalize and to skip in view 9",
        "dev-0 of test: notes refused an own command: empty",
        "dev-0 of test: ALARM: attestations of one height differ",
    ]
    assert speech.said == []


def test_events_as_json_lines() -> None:
    closed = json.loads(event_json(DeviceEvent("closed", 5, (("outcome", OUTCOME), ("height", 3)))))
    assert (closed["event"], closed["at_ms"], closed["height"]) == ("closed", 5, 3)
    assert closed["outcome"]["decision"] == OUTCOME.decision.hex()
    assert closed["outcome"]["words"] == OUTCOME.value_in_words()
    committed = json.loads(event_json(DeviceEvent("committed", 1, (("id", b"\x01\xff"), ("tags", (1, 2))))))
    assert (committed["id"], committed["tags"]) == ("01ff", [1, 2])
    assert json.loads(link_json(UP, 9)) == {
        "event": "link",
        "at_ms": 9,
        "link": "connected",
        "reason": UP.reason,
    }
