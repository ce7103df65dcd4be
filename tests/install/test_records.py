"""Boot records: two copies, the newest whole one holds, and what a bootloader does when none is whole."""

from __future__ import annotations

import json
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firmware_sim.posixfs import PosixFs
from swarm.install.port import InstallError, InstallReason, Outcome
from swarm.install.records import (
    MAGIC,
    AnyRecord,
    Confirmed,
    Floor,
    Progress,
    RecordPair,
    Starts,
    Trial,
    _checksum,
    decode_copy,
    encode_copy,
    read_record,
    write_record,
)
from swarm.install.selection import (
    STARTS_WITHOUT_HEALTH_MAX,
    NothingBootableError,
    choose_slot,
    note_health,
    read_seal,
    selected_slot,
)
from tests.support.install import (
    DirectoryRig,
    ModelDisk,
    directory_release,
    install,
    intent_for,
    into_trial,
    model_rig,
    running,
    stage,
)

TRIAL = Trial(
    phase="trial", slot="b", base="a", release="aa", digest="bb", permit=9, attempts=1, attempts_max=3
)
RECORDS: list[AnyRecord] = [
    TRIAL,
    Confirmed(slot="a", digest="cc", permit=3, previous="dd"),
    Floor(counter=4, acted=9, declined=8, revoked=("11", "22")),
    Starts(boots=7, unhealthy=2, digest="cc"),
    Progress(release="aa", bits="ff00"),
]


def disk() -> ModelDisk:
    fs = PosixFs()
    fs.mkdir("/boot")
    return ModelDisk(fs)


def spoil(rig: DirectoryRig, name: str, *copies: int) -> None:
    for copy in copies or (0, 1):
        rig.disk.write_bytes(f"{rig.root}/boot/{name}.{copy}", b"spoilt")


# ----------------------------------------------------------------------------- one copy


@pytest.mark.parametrize("record", RECORDS)
def test_round_trip(record: AnyRecord) -> None:
    assert decode_copy(type(record), encode_copy(record, 5)) == (5, record)


@pytest.mark.parametrize("record", RECORDS)
def test_every_flip_and_cut_is_noticed(record: AnyRecord) -> None:
    data = encode_copy(record, 5)
    for at in range(len(data)):
        assert decode_copy(type(record), data[:at]) is None
        changed = bytearray(data)
        changed[at] ^= 0x20
        assert decode_copy(type(record), bytes(changed)) is None
    assert decode_copy(type(record), data + b" ") is None


def test_a_copy_under_another_name_is_broken() -> None:
    assert decode_copy(Floor, encode_copy(TRIAL, 5)) is None


def sealed_json(kind: type[AnyRecord], body: object) -> bytes:
    """Return a copy with a right checksum over any JSON."""
    text = json.dumps(body).encode()
    return struct.pack(">8sQ32s", MAGIC, 5, _checksum(kind.NAME, 5, text)) + text


@pytest.mark.parametrize(
    "body",
    [
        [],
        7,
        {"slot": "a"},
        {"slot": 1, "digest": "cc"},
        {"slot": "a", "digest": "cc", "permit": -1},
        {"slot": "a", "digest": "cc", "permit": True},
        {"slot": "a", "digest": "cc", "permit": "3"},
        {"slot": "a", "digest": "cc", "colour": "red"},
    ],
)
def test_a_wrong_type_under_a_right_checksum_is_broken(body: object) -> None:
    assert decode_copy(Confirmed, sealed_json(Confirmed, body)) is None


def test_an_unknown_phase_is_broken() -> None:
    assert decode_copy(Trial, sealed_json(Trial, {"phase": "flying"})) is None
    assert decode_copy(Trial, sealed_json(Trial, {"phase": "none"})) == (5, Trial())


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_garbage_is_broken(data: bytes) -> None:
    assert decode_copy(Trial, data) is None


# ----------------------------------------------------------------------------- two copies


@pytest.mark.parametrize("count", [2, 3, 4, 5])
def test_the_newest_holds_and_the_one_before_it_is_kept(count: int) -> None:
    files = disk()
    for boots in range(1, count + 1):
        write_record(files, "/boot", Starts(boots=boots))
        assert read_record(files, "/boot", Starts) == Starts(boots=boots)
    found = []
    for copy in (0, 1):
        whole = files.read_bytes(f"/boot/starts.{copy}")
        files.write_bytes(f"/boot/starts.{copy}", b"")
        found.append(read_record(files, "/boot", Starts))
        files.write_bytes(f"/boot/starts.{copy}", whole)
    newest, before = Starts(boots=count), Starts(boots=count - 1)
    # Copy 0 holds the odd ones, and what is found is in the copy that was not spoilt.
    assert found == ([before, newest] if count % 2 else [newest, before])


def test_a_broken_copy_is_written_first() -> None:
    files = disk()
    for boots in (1, 2):
        write_record(files, "/boot", Starts(boots=boots))
    files.write_bytes("/boot/starts.1", b"torn")
    write_record(files, "/boot", Starts(boots=3))
    files.write_bytes("/boot/starts.1", b"torn again")
    assert read_record(files, "/boot", Starts) == Starts(boots=1), "the whole copy was not risked"


def test_none_is_not_a_default() -> None:
    assert read_record(disk(), "/boot", Trial) is None
    assert RecordPair(disk(), "/nowhere", "trial").read(Trial) is None


# ----------------------------------------------------------------------------- broken records at a start


def test_a_broken_trial_record_is_a_failed_trial() -> None:
    rig = model_rig()
    into_trial(rig, rig.release(2), attempts=3)
    spoil(rig, "trial")
    after = rig.start()
    assert running(after.status()) == 1
    outcome = after.outcome()
    assert (outcome.outcome, outcome.reason, outcome.permit) == (Outcome.REVERTED, "records-broken", 102)
    with pytest.raises(InstallError, match="permit-used"):
        after.arm(intent_for(rig.release(2)))
    after.arm(intent_for(rig.release(2), permit=103))


def test_a_broken_trial_record_of_a_confirmed_image_is_nothing() -> None:
    rig = model_rig()
    install(rig, rig.release(2))
    spoil(rig, "trial")
    after = rig.start()
    assert running(after.status()) == 2
    assert (after.outcome().outcome, after.outcome().permit) == (Outcome.CONFIRMED, 102)


def test_a_broken_confirmed_record_ends_the_trial_in_its_base() -> None:
    rig = model_rig()
    into_trial(rig, rig.release(2), attempts=3)
    spoil(rig, "confirmed")
    after = rig.start()
    assert (running(after.status()), after.status().settled) == (1, True)
    assert (after.outcome().outcome, after.outcome().reason) == (Outcome.REVERTED, "records-broken")


def test_a_broken_confirmed_record_without_trial_keeps_the_selection() -> None:
    rig = model_rig()
    rig.start()
    spoil(rig, "confirmed")
    assert running(rig.start().status()) == 1


def test_a_broken_floor_keeps_the_counter_and_uses_the_permits_up() -> None:
    rig = model_rig()
    install(rig, rig.release(2, counter=5)).raise_counter(5)
    spoil(rig, "floor")
    after = rig.start()
    assert after.status().counter == 5
    with pytest.raises(InstallError, match="intent-written"):
        after.decline(102)


def test_all_records_broken_runs_what_was_selected() -> None:
    rig = model_rig()
    install(rig, rig.release(2))
    for name in ("trial", "confirmed", "floor", "starts"):
        spoil(rig, name)
    assert running(rig.start().status()) == 2
    assert rig.start().status().settled


@pytest.mark.parametrize("copy", [0, 1])
def test_one_broken_copy_of_each_changes_nothing(copy: int) -> None:
    rig = model_rig()
    install(rig, rig.release(2))
    rig.start()
    for name in ("trial", "confirmed", "floor", "starts"):
        # The same content in both copies; only the sequence numbers differ.
        kinds: tuple[type[AnyRecord], ...] = (Trial, Confirmed, Floor, Starts)
        for kind in kinds:
            record = read_record(rig.disk, f"{rig.root}/boot", kind)
            assert record is not None
            if name == kind.NAME:
                write_record(rig.disk, f"{rig.root}/boot", record)
        spoil(rig, name, copy)
    assert running(rig.start().status()) == 2


def test_broken_records_under_a_running_agent_are_a_typed_refusal() -> None:
    rig = model_rig()
    backend = rig.start()
    spoil(rig, "floor")
    with pytest.raises(InstallError) as caught:
        backend.status()
    assert caught.value.reason is InstallReason.RECORDS_BROKEN


# ----------------------------------------------------------------------------- health, fall back, nothing left


def unhealthy(rig: DirectoryRig, starts: int) -> None:
    for _ in range(starts):
        rig.start()


def test_five_starts_without_health_fall_back_once() -> None:
    rig = model_rig()
    install(rig, rig.release(2))
    unhealthy(rig, STARTS_WITHOUT_HEALTH_MAX)
    assert rig.choices[-1].slot == "b"
    after = rig.start()
    outcome = after.outcome()
    assert (running(after.status()), after.status().settled) == (1, True)
    assert (outcome.outcome, outcome.reason, outcome.permit) == (Outcome.FELL_BACK, "no-health", 102)
    unhealthy(rig, 3 * STARTS_WITHOUT_HEALTH_MAX)
    assert {choice.slot for choice in rig.choices[-15:]} == {"a"}, "never back to the one that failed"
    assert after.status().spare.state.value == "failed"


def test_health_starts_the_count_anew() -> None:
    rig = model_rig()
    install(rig, rig.release(2))
    for _ in range(4):
        unhealthy(rig, STARTS_WITHOUT_HEALTH_MAX - 1)
        note_health(rig.disk, rig.root)
    assert {choice.slot for choice in rig.choices[-16:]} == {"b"}


def test_a_new_image_does_not_pay_for_the_starts_of_the_old_one() -> None:
    rig = model_rig()
    unhealthy(rig, 3 * STARTS_WITHOUT_HEALTH_MAX)
    install(rig, rig.release(2))
    assert running(rig.start().status()) == 2


def test_an_image_that_was_never_permitted_does_not_stand_in_for_one_without_health() -> None:
    rig = model_rig()
    stage(rig.start(), rig.release(2))
    unhealthy(rig, 3 * STARTS_WITHOUT_HEALTH_MAX)
    assert {choice.slot for choice in rig.choices} == {"a"}


@pytest.mark.parametrize("why", ["revoked", "counter", "damaged"])
def test_no_fall_back_to_a_slot_that_must_not_run(why: str) -> None:
    rig = model_rig()
    backend = install(rig, rig.release(2, counter=5))
    if why == "revoked":
        backend.revoke(directory_release(1).plan.release)
    elif why == "counter":
        backend.raise_counter(5)
    else:
        rig.disk.write_bytes(f"{rig.root}/slots/a/__main__.py", b"other")
    unhealthy(rig, 3 * STARTS_WITHOUT_HEALTH_MAX)
    assert running(rig.start().status()) == 2


def test_a_damaged_confirmed_slot_falls_back() -> None:
    rig = model_rig()
    install(rig, rig.release(2))
    rig.disk.write_bytes(f"{rig.root}/slots/b/extra.py", b"planted")
    after = rig.start()
    assert running(after.status()) == 1
    assert (after.outcome().outcome, after.outcome().reason) == (Outcome.FELL_BACK, "slot-damaged")


def test_a_trial_that_reverted_does_not_stand_in() -> None:
    rig = model_rig()
    into_trial(rig, rig.release(2)).revert("self-test")
    unhealthy(rig, 3 * STARTS_WITHOUT_HEALTH_MAX)
    assert running(rig.start().status()) == 1


def test_nothing_bootable_is_said_and_not_started() -> None:
    rig = model_rig()
    rig.disk.unlink(f"{rig.root}/slots/a.sealed")
    with pytest.raises(NothingBootableError, match="not-sealed"):
        choose_slot(rig.disk, rig.root)
    spoil(rig, "confirmed")
    with pytest.raises(NothingBootableError, match="none is whole"):
        choose_slot(rig.disk, rig.root)


def test_a_selection_without_intent_is_put_right() -> None:
    rig = model_rig()
    stage(rig.start(), rig.release(2))
    rig.disk.unlink(f"{rig.root}/current")
    rig.disk.symlink("slots/b", f"{rig.root}/current")
    assert running(rig.start().status()) == 1
    assert selected_slot(rig.disk, rig.root) == "a"
    rig.disk.unlink(f"{rig.root}/current")
    rig.disk.symlink("../elsewhere", f"{rig.root}/current")
    assert selected_slot(rig.disk, rig.root) == ""
    assert running(rig.start().status()) == 1


def test_an_intent_without_selection_waits_for_the_agent() -> None:
    rig = model_rig()
    backend = rig.start()
    backend.arm(stage(backend, rig.release(2)))
    rig.disk.unlink(f"{rig.root}/current")
    rig.disk.symlink("slots/a", f"{rig.root}/current")
    after = rig.start()
    assert (running(after.status()), after.outcome().outcome) == (1, Outcome.ARMED)
    with pytest.raises(InstallError, match="not-armed"):
        after.activate()
    after.arm(intent_for(rig.release(2)))
    after.activate()
    assert running(rig.start().status()) == 2


@pytest.mark.parametrize("data", [b"", b"{}", b"swseal1\0" + bytes(32) + b"{}"])
def test_a_torn_seal_is_no_seal(data: bytes) -> None:
    rig = model_rig()
    rig.disk.write_bytes(f"{rig.root}/slots/b.sealed", data)
    assert read_seal(rig.disk, rig.root, "b") is None
