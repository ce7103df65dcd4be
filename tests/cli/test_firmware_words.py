"""What `swarm firmware` says: every event in words, a device's past from its reports, the picture of a rollout."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import pytest
from rich.console import Console

from swarm.agent.client.replay import Logged
from swarm.apps.rollout import events
from swarm.apps.rollout.entries import Report
from swarm.apps.rollout.events import Ran, RolloutEvent
from swarm.apps.rollout.keys import KeySet
from swarm.apps.rollout.manifest import sign_release
from swarm.apps.rollout.spec import PlanSpec, Step, settle_spec
from swarm.cli.firmware.follow import paint_plan, progress_of
from swarm.cli.firmware.history import describe_history, intervals_of
from swarm.cli.firmware.manifests import read_chunk_bytes, read_size
from swarm.cli.firmware.release_file import ReleaseFile
from swarm.cli.firmware.releases import check_proposal
from swarm.cli.firmware.screen import Lines, reading
from swarm.cli.firmware.status import describe_state, report_state
from swarm.cli.firmware.words import describe_event, describe_spec, size_text
from swarm.device.delivery.server import ServeCounts
from swarm.primitives.errors import ConfigError
from swarm.primitives.ids import ZERO_DIGEST
from swarm.primitives.quorum import budget_of
from tests.support.rollouts import RolloutLog, make_manifest, release_keypairs

ID = b"\xab" * 32
CLASS = b"\x01" * 32


def report(boot: int, **changes: Any) -> Report:
    fields: dict[str, Any] = {
        "permit": 0, "incarnation": 0, "boot": boot, "step": 1, "result": "started", "reason": "",
        "class_id": CLASS, "slot": 0, "digest": b"\x11" * 32, "number": 1, "counter": 0, "confirmed": True,
        "degraded": False, "spare": "empty", "spare_digest": ZERO_DIGEST, "nonce_height": 0,
        "nonce_root": ZERO_DIGEST, "attestation": b"", "previous": 0,
    }  # fmt: skip
    return Report(**{**fields, **changes})


EVENTS: list[tuple[RolloutEvent, str]] = [
    (events.Proposed(ID, CLASS, 3, "1.2"), "release abababab proposed: number 3, version 1.2"),
    (
        events.Contradiction(CLASS, 3, ID, ID),
        "CONTRADICTION: releases abababab and abababab both have number 3",
    ),
    (events.Approved(ID), "release abababab approved by a quorum"),
    (
        events.KeysChanged(KeySet(1, 2, (ID, ID)), emergency=True, voided=(ID,)),
        "release keys changed: 2 of 2 sign (an emergency: too few old keys signed it); 1 proposed releases are void",
    ),
    (events.Planned(ID, ID), "plan abababab made for release abababab"),
    (events.Opened(ID, 2, 0, "voters", ("dev-1",)), "plan abababab: stage 2 (voters) opened: dev-1"),
    (events.Opened(ID, 2, 0, "end", ()), "plan abababab: stage 2 (end) opened"),
    (
        events.Permitted(ID, 0, 0, "dev-1", 0, ID, ("dev-2",)),
        "dev-1 may start image abababab, while dev-2 at risk",
    ),
    (events.Refused(ID, 0, 0, "dev-1", 0, "at-risk"), "dev-1 got no permit: at-risk"),
    (events.Accepted(7, "dev-1"), "dev-1 is healthy and may confirm (permit 7)"),
    (events.Denied(7, "dev-1", "frozen"), "dev-1 must go back (permit 7): frozen"),
    (
        events.Deadline(ID, 1, 0, 1, ("dev-1",), (), ("dev-2",)),
        "plan abababab: stage 1 is late; failed by silence: dev-1; missed: nobody; instead: dev-2",
    ),
    (events.Closed(ID, 1, 0, ("dev-1",), ()), "plan abababab: stage 1 closed good; confirmed: dev-1"),
    (events.Frozen(ID, CLASS, 0, "votes"), "plan abababab frozen by votes"),
    (
        events.Frozen(ZERO_DIGEST, CLASS, 0, "contradiction"),
        "class 01010101-0101-0101-0101-010101010101/01010101-0101-0101-0101-010101010101 frozen by contradiction",
    ),
    (events.Resumed(ID, 1, ("dev-1",)), "plan abababab goes on (generation 1) without dev-1"),
    (events.RollingBack(ID, 3, 1), "plan abababab: its image is taken back"),
    (events.Abandoned(ID), "plan abababab given up"),
    (events.RolledBack(ID, ()), "plan abababab rolled back; stragglers: nobody"),
    (events.Revoked(ID, ID, "bad"), "release abababab revoked: bad"),
    (events.Completed(ID, ID), "plan abababab completed: release abababab is out"),
    (
        Ran("dev-1", report(4, result="never_tried", reason="power"), 0),
        "dev-1 reports never tried (power): runs number 1, image 11111111, boot 4",
    ),
    (events.Activated(2), "protocol version 2 is spoken from here on"),
    (events.Consented(ID, "dev-1"), "plan abababab: dev-1 may restart although nobody else may fail"),
]


@pytest.mark.parametrize(("event", "words"), EVENTS)
def test_every_event_has_its_words(event: RolloutEvent, words: str) -> None:
    assert describe_event(event).startswith(words)


def test_no_event_is_forgotten() -> None:
    assert {type(event) for event, _ in EVENTS} == set(get_args(RolloutEvent))


def test_sizes_are_read_and_written() -> None:
    assert [size_text(n) for n in (5, 1024, 1536, 3 << 20)] == ["5 bytes", "1 KiB", "1.5 KiB", "3 MiB"]
    assert [read_size(text, "x") for text in ("5", "4KiB", "2MiB")] == [5, 4096, 2 << 20]
    assert (read_chunk_bytes(None, 100), read_chunk_bytes(None, 1 << 20)) == (4096, 32768)


def test_a_plan_is_said_in_one_sentence() -> None:
    spec = PlanSpec(
        steps=(Step("voters", 1, 0), Step("observers", 0, 250)), soak_ms=5_000, max_fail=2, barrier=True,
        pause_after=(0,),
    )  # fmt: skip
    assert describe_spec(settle_spec(spec, budget_of(4, "balanced"))) == (
        "steps: 1 voter, then 25 % of the observers, then whoever is left; soak 5s; deadline 15m; trial 2m x 1; hold"
        " back 3 voters; reserve 0; 2 observers of a stage may fail; all of a stage wait for each other; pause after"
        " step 1"
    )


# ------------------------------------------------------------------------------ history


ROOTS = {0: b"\x00" * 32, 5: b"\x55" * 32, 9: b"\x99" * 32}
NEW = {"digest": b"\x22" * 32, "number": 2, "slot": 1}


def logged(*reports: Report) -> list[tuple[Logged, Report]]:
    return [
        (Logged(100 + index, 10 * (index + 1), ID, Ran("dev-1", item, 0)), item)
        for index, item in enumerate(reports)
    ]


def test_an_interval_lasts_from_its_first_report_to_the_next_image() -> None:
    past = intervals_of(
        logged(
            report(1),
            report(1, step=2, result="healthy"),
            report(2, nonce_height=5, nonce_root=ROOTS[5], **NEW),
            report(2, step=2, result="confirmed", nonce_height=5, nonce_root=ROOTS[5], **NEW),
        ),
        ROOTS,
    )
    first, second = past
    assert (first.from_height, first.to_height, first.boots, first.positions) == (10, 30, (1, 1), (100, 101))
    assert (second.after_height, second.from_height, second.to_height) == (5, 30, None)
    assert second.said == ("started", "confirmed")
    assert (second.number, second.slot, second.digest) == (2, 1, NEW["digest"])


def test_left_out_boots_are_unknown_wherever_they_are() -> None:
    past = intervals_of(logged(report(3), report(5), report(6)), ROOTS)
    assert [(interval.evidence, interval.boots) for interval in past] == [
        ("unknown", (1, 2)),
        ("self-reported", (3, 3)),
        ("unknown", (4, 4)),
        ("self-reported", (5, 6)),
    ]
    assert [(interval.from_height, interval.to_height) for interval in past] == [
        (0, 10), (10, 10), (10, 20), (20, None),
    ]  # fmt: skip


def test_a_new_incarnation_has_forgotten_how_often_it_started() -> None:
    past = intervals_of(logged(report(4), report(1, incarnation=1)), ROOTS)
    assert [interval.evidence for interval in past] == [
        "unknown",
        "self-reported",
        "unknown",
        "self-reported",
    ]


def test_a_head_that_never_was_dates_nothing() -> None:
    (interval,) = intervals_of(logged(report(1, nonce_height=5, nonce_root=ROOTS[9])), ROOTS)
    assert interval.after_height is None
    (interval,) = intervals_of(logged(report(1, nonce_height=77, nonce_root=ROOTS[5])), ROOTS)
    assert interval.after_height is None
    assert "no known block" in "\n".join(describe_history("dev-1", [interval]))


def test_an_attestation_that_nobody_can_check_is_a_word() -> None:
    (interval,) = intervals_of(logged(report(1, attestation=b"trust me")), ROOTS)
    assert interval.evidence == "self-reported"


def test_a_device_without_reports_has_no_past() -> None:
    assert describe_history("dev-1", []) == ["dev-1 has not reported yet"]


# ------------------------------------------------------------------------------ pictures


@dataclass
class _Replay:
    rollout: Any
    height: int = 12
    log_size: int = 40
    log_root: bytes = ID


@dataclass
class _Client:
    served: ServeCounts


class _Session:
    """What a picture needs of a session, over a log of a test."""

    def __init__(self, log: RolloutLog) -> None:
        self.log = log
        self.replay = _Replay(log.app)
        self.client = _Client(ServeCounts())
        self.genesis = log.genesis
        self.state = log.app.state

    def manifest(self, plan: Any) -> Any:
        return self.state.releases[plan.release].manifest


def picture(session: Any, plan: Any) -> str:
    console = Console(file=io.StringIO(), width=120, color_system=None)
    console.print(paint_plan(session, plan))
    return str(console.file.getvalue())  # type: ignore[attr-defined]


def test_the_picture_of_a_rollout_shows_stages_members_and_who_is_at_risk() -> None:
    log = RolloutLog(observers=2)
    log.planned(hold_back=2)
    log.go()
    member = log.plan.stages[0].members
    name = next(iter(member))
    log.arm(name)
    session = _Session(log)
    shown = picture(session, log.plan)
    assert f"plan {log.plan_id[:4].hex()}: active" in shown
    assert "0 of 6 devices run number 2" in shown
    assert f"at risk: {name}; height 12" in shown
    assert "served" not in shown
    session.client.served = ServeCounts(chunks=3, bytes=12_288)
    assert "served 3 chunks, 12 KiB" in picture(session, log.plan)
    assert progress_of(session, log.plan) == (0, 6)  # type: ignore[arg-type]
    words = "\n".join(describe_state(session))  # type: ignore[arg-type]
    assert f"stage 0 (voters), open since {log.plan.stages[0].opened_height}: {name} armed" in words
    assert f"  {name} holds permit " in words
    assert report_state(session)["at_risk"] == [name]  # type: ignore[arg-type]


def test_status_names_what_stands_still_and_why() -> None:
    log = RolloutLog()
    log.planned(hold_back=2)
    log.halt()
    words = "\n".join(describe_state(_Session(log)))  # type: ignore[arg-type]
    assert "frozen by votes" in words
    other = RolloutLog()
    other.propose(2)
    other.propose(2, version="evil")
    words = "\n".join(describe_state(_Session(other)))  # type: ignore[arg-type]
    assert "stands still: contradiction" in words
    assert words.count("CONTRADICTED") == 2


def test_status_of_an_empty_log() -> None:
    log = RolloutLog(fleet=False)
    words = describe_state(_Session(log))  # type: ignore[arg-type]
    assert "releases: none was proposed yet" in words
    assert "devices: none has reported yet" in words


def test_a_counter_below_what_devices_enforce_is_refused_before_it_is_logged() -> None:
    log = RolloutLog()
    for id in log.units:
        log.units[id].counter = 5
        log.report(id, "started")
    session: Any = _Session(log)
    session.release = log.app.release
    keys = [pair.public for pair in release_keypairs()]
    assert list(log.app.state.keys.keys) == sorted(keys)

    def proposal(counter: int) -> ReleaseFile:
        release = ReleaseFile(
            manifest=make_manifest(log.genesis.id, 2, counter=counter), signatures=(), image=b""
        )
        for pair in release_keypairs()[:2]:
            release = release.with_signature(sign_release(pair, release.id))
        return release

    with pytest.raises(ConfigError, match="security counter 4 is below 5, which devices enforce"):
        check_proposal(session, proposal(4), Path("two.swfw"))
    assert check_proposal(session, proposal(5), Path("two.swfw")) is None


# ------------------------------------------------------------------------------ lines


def test_a_line_is_said_when_it_is_new_and_at_most_once_a_second(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = 100.0
    monkeypatch.setattr("swarm.cli.firmware.screen.time.monotonic", lambda: now)
    monkeypatch.setattr("swarm.cli.firmware.screen.tell", print)
    lines = Lines()
    for text, at in (("a", 100.0), ("b", 100.5), ("a", 101.5), ("c", 101.6), ("d", 102.7)):
        now = at
        lines.say(text)
    assert capsys.readouterr().out.split() == ["a", "c", "d"]


def test_what_is_read_within_a_second_says_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = 100.0
    monkeypatch.setattr("swarm.cli.firmware.screen.time.monotonic", lambda: now)
    monkeypatch.setattr("swarm.cli.firmware.screen.tell", print)
    with reading("reading the log") as show:
        show(1, 10)
        now = 101.5
        show(7, 10)
        show(8, 10)
        now = 103.0
        show(10, 10)
    assert capsys.readouterr().out == "reading the log: 7 of 10 blocks\n"
