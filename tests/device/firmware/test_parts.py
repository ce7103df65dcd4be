"""The parts of the firmware side by themselves: installer, desk, download, peers, offers, attestation."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from swarm.crypto.merkle import leaf_hash
from swarm.device.firmware.desk import INSPECT_AGAIN_MS, Desk
from swarm.device.firmware.download import TRY_AGAIN_MS, Download
from swarm.device.firmware.installer import Installer
from swarm.device.firmware.keeper import CHUNK_PEERS_MAX, LOOK_MS
from swarm.device.firmware.operations import (
    Activate,
    ArmBoot,
    Attest,
    Begin,
    Confirm,
    CopyChunks,
    DeclinePermit,
    Discard,
    Inspect,
    Inspection,
    Install,
    InstallDone,
    Operation,
    RaiseCounter,
    ReadChunk,
    ReadLeaves,
    Revert,
    RevokeRelease,
    Seal,
    Withdraw,
    WriteChunks,
)
from swarm.device.firmware.policy import FirmwarePolicy
from swarm.device.firmware.step import Step
from swarm.install.port import (
    Attestation,
    Bitmap,
    Capability,
    InstallError,
    InstallReason,
    Outcome,
    Restart,
    SlotState,
    SlotStatus,
)
from swarm.primitives.errors import InvariantError
from swarm.wire.codec import Codec
from tests.device.firmware.test_crash_table import Canary, kinds
from tests.device.firmware.test_rules import rolled_out, started
from tests.support.install import Release, intent_for, model_rig
from tests.support.updating import UpdatingFleet

# ------------------------------------------------------------------------------------------ installer


class Bench:
    """An installer on a disk model."""

    def __init__(self) -> None:
        self.rig = model_rig()
        self.installer = Installer(self.rig.start())
        self.tag = 0

    def done(self, operation: Operation) -> InstallDone:
        self.tag += 1
        done = self.installer.run(operation, self.tag)
        assert (done.tag, done.operation) == (self.tag, operation)
        return done

    def answer(self, operation: Operation) -> object:
        done = self.done(operation)
        assert done.error is None, done.error
        return done.answer

    def reason(self, operation: Operation) -> InstallReason | None:
        error = self.done(operation).error
        return None if error is None else error.reason

    def seal(self, release: Release) -> None:
        self.answer(Begin(release.plan))
        self.answer(WriteChunks(tuple(enumerate(release.chunks)), checkpoint=True))
        self.answer(Seal())


def test_every_operation_reaches_the_back_end() -> None:
    bench = Bench()
    release = bench.rig.release(2, counter=2)
    seen = bench.answer(Inspect())
    assert isinstance(seen, Inspection)
    assert seen.status.running.number == 1
    assert bench.answer(Begin(release.plan)) == Bitmap.of(release.plan.chunk_count, set())
    first = bench.answer(WriteChunks(((0, release.chunks[0]),), checkpoint=False))
    assert first == Bitmap.of(release.plan.chunk_count, set()), "a bitmap claims only what is synced"
    rest = tuple((index, release.chunks[index]) for index in range(1, release.plan.chunk_count))
    full = bench.answer(WriteChunks(rest, checkpoint=True))
    assert isinstance(full, Bitmap)
    assert full.is_full
    sealed = bench.answer(Seal())
    assert isinstance(sealed, SlotStatus)
    assert sealed.state is SlotState.STAGED
    assert bench.answer(ReadChunk("sealed", 0, 10)) == release.data[:10]
    leaves = tuple(leaf_hash(chunk) for chunk in release.chunks)
    assert bench.answer(ReadLeaves("sealed", release.plan.file_bytes, release.plan.chunk_bytes)) == leaves
    assert bench.reason(DeclinePermit(7)) is None
    intent = intent_for(release)
    bench.answer(ArmBoot(intent))
    bench.answer(Withdraw())
    again = replace(intent, permit=intent.permit + 1)
    bench.answer(ArmBoot(again))
    assert bench.answer(Activate()) == Restart(exit_code=75)
    bench.installer = Installer(bench.rig.start())
    assert isinstance(bench.answer(Attest(bytes(32))), Attestation)
    bench.answer(Confirm())
    bench.answer(RaiseCounter(2))
    bench.answer(RevokeRelease(b"\x09" * 32))
    bench.answer(Discard())
    status = bench.answer(Inspect())
    assert isinstance(status, Inspection)
    assert (status.status.running.number, status.status.counter) == (2, 2)
    assert status.status.revoked == (b"\x09" * 32,)


def test_a_trial_is_reverted() -> None:
    bench = Bench()
    release = bench.rig.release(2)
    bench.seal(release)
    bench.answer(ArmBoot(intent_for(release)))
    bench.answer(Activate())
    bench.installer = Installer(bench.rig.start())
    assert bench.answer(Revert("no-sensor")) == Restart(exit_code=75)
    bench.installer = Installer(bench.rig.start())
    seen = bench.answer(Inspect())
    assert isinstance(seen, Inspection)
    assert (seen.outcome.outcome, seen.outcome.reason) == (Outcome.REVERTED, "no-sensor")


@pytest.mark.parametrize("operation", [WriteChunks((), checkpoint=True), Seal()])
def test_nothing_is_written_that_was_not_begun(operation: Operation) -> None:
    assert Bench().reason(operation) is InstallReason.INCOMPLETE


def test_a_refusal_is_a_result_and_a_bug_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench()
    assert bench.reason(Confirm()) is InstallReason.NOT_IN_TRIAL

    def fail() -> object:
        raise ZeroDivisionError

    monkeypatch.setattr(bench.installer.backend, "status", fail)
    with pytest.raises(ZeroDivisionError):
        bench.done(Inspect())


def test_equal_chunks_of_the_running_image_are_copied_wherever_they_lie() -> None:
    bench = Bench()
    running = bench.rig.release(1)
    release = bench.rig.release(2)
    count = release.plan.chunk_count
    # The new image holds the running one's first chunk at its end as well.
    leaves = [leaf_hash(chunk) for chunk in release.chunks]
    leaves[count - 1] = leaf_hash(running.chunks[0])
    bench.answer(Begin(release.plan))
    copied = bench.answer(CopyChunks(release.plan, tuple(leaves), tuple(range(count))))
    assert copied == (), "a chunk of another length than its place's is none"
    leaves[0] = leaf_hash(running.chunks[0])
    assert bench.answer(CopyChunks(release.plan, tuple(leaves), (0,))) == (0,)
    have = bench.answer(Begin(release.plan))
    assert isinstance(have, Bitmap)
    assert 0 in have, "and what was copied is durable"


# ------------------------------------------------------------------------------------------ desk


def test_one_operation_at_a_time_and_a_look_after_each() -> None:
    desk, step = Desk(), Step()
    assert desk.look(step, 0) is None
    (order,) = step.actions
    assert isinstance(order, Install)
    assert order.operation == Inspect()
    assert desk.look(step, 0) is None
    assert len(step.actions) == 1, "it is under way"
    with pytest.raises(InvariantError, match="two operations"):
        desk.order(Seal(), step)
    seen = Bench().answer(Inspect())
    assert not desk.take(InstallDone(order.tag + 1, Inspect(), None), step, 0), "of another life"
    assert desk.take(InstallDone(order.tag, Inspect(), seen), step, 0)  # type: ignore[arg-type]
    assert desk.look(step, 1) is seen
    desk.forget()
    assert desk.look(step, 2) is None
    assert len(step.actions) == 2


def test_media_that_cannot_be_read_are_read_again_later() -> None:
    desk, step = Desk(), Step()
    desk.look(step, 0)
    order = step.actions[-1]
    assert isinstance(order, Install)
    desk.take(InstallDone(order.tag, Inspect(), None, InstallError(InstallReason.MEDIUM)), step, 10)
    assert desk.has_failed
    assert desk.look(step, 11) is None
    assert len(step.actions) == 1
    assert step.wake_at_ms == 10 + INSPECT_AGAIN_MS
    desk.look(step, 10 + INSPECT_AGAIN_MS)
    assert len(step.actions) == 2


# ------------------------------------------------------------------------------------------ download


def test_a_refusal_that_may_pass_is_tried_again_after_a_while() -> None:
    release = model_rig().release(2)
    download, desk, step = Download(b"seed"), Desk(), Step()
    seen = Bench().answer(Inspect())
    assert isinstance(seen, Inspection)

    def begin(now_ms: int) -> list[Operation]:
        fresh = Step()
        download.want(release.plan, seen, fresh)
        download.advance(desk, fresh, now_ms)
        return [action.operation for action in fresh.actions if isinstance(action, Install)]

    assert begin(0) == [Begin(release.plan)]
    done = InstallDone(1, Begin(release.plan), None, InstallError(InstallReason.NO_SPACE))
    assert desk.take(done, step, 0)
    assert download.take(done, desk, step, 0)
    assert download.trouble == {release.plan.release: "no-space"}
    assert download.refused == {}
    assert begin(1) == []
    assert begin(TRY_AGAIN_MS) == [Begin(release.plan)]


def test_what_was_let_go_of_while_it_ran_is_nobodys_business() -> None:
    release = model_rig().release(2)
    download, desk, step = Download(b"seed"), Desk(), Step()
    seen = Bench().answer(Inspect())
    assert isinstance(seen, Inspection)
    download.want(release.plan, seen, step)
    download.advance(desk, step, 0)
    download.stop()
    done = InstallDone(1, Begin(release.plan), Bitmap.of(release.plan.chunk_count, set()))
    assert desk.take(done, step, 0)
    assert download.take(done, desk, step, 0)
    assert download.fetcher is None
    assert download.release == b""


def test_who_was_missed_stops_fetching() -> None:
    fleet = started()
    fleet.is_serving = False
    plan = fleet.plan(fleet.propose(2))
    fleet.until(lambda: any(fleet.told(id, "fetching") for id in fleet.units))
    canary = next(id for id in fleet.units if fleet.told(id, "fetching"))
    assert fleet.keeper(canary).updater.download.release != b""
    fleet.until(lambda: canary in fleet.the_plan(plan).missed, within_ms=90_000, step_ms=200)
    fleet.advance(200, 20)
    assert fleet.keeper(canary).updater.download.release == b""


# ------------------------------------------------------------------------------------------ peers and offers


def test_what_runs_and_what_is_sealed_is_offered_as_long_as_the_log_wants_it() -> None:
    fleet = started()
    first = fleet.the_plan(rolled_out(fleet, 2)).release
    assert fleet.keeper("dev-0").server.offered == (first,)
    canary = "dev-0"
    second = fleet.propose(3)
    fleet.plan(second)
    fleet.until(
        lambda: any(len(fleet.keeper(id).server.offered) == 2 for id in fleet.units if fleet.is_up(id))
    )
    canary = next(id for id in fleet.units if len(fleet.keeper(id).server.offered) == 2)
    assert set(fleet.keeper(canary).server.offered) == {first, second}
    fleet.rollout(canary).state.releases[second].suspended = True
    fleet.advance(11_000, 100)
    assert second not in fleet.keeper(canary).server.offered


def test_the_second_member_fetches_from_the_first() -> None:
    fleet = started()
    plan = fleet.plan(fleet.propose(2))
    fleet.until(lambda: any(v == 2 for v in fleet.versions().values()))
    fleet.is_serving = False
    fleet.until(lambda: fleet.the_plan(plan).state == "completed", within_ms=200_000, step_ms=100)
    assert set(fleet.versions().values()) == {2}


def test_holders_that_the_log_knows_are_asked_first_and_only_a_few_of_them() -> None:
    fleet = UpdatingFleet(observers=9)
    fleet.advance(500, 20)
    release = fleet.propose(2)
    fleet.until(lambda: fleet.rollout().release(release) is not None)
    keeper = fleet.keeper("dev-0")
    state = fleet.rollout("dev-0").state
    digest = state.releases[release].manifest.image_digest
    assert keeper._peers_of(release) == ("ops", "dev-1", "dev-2", "dev-3")
    for id in ("dev-2", *(f"obs-{index}" for index in range(9))):
        state.devices[id].digest = digest
    peers = keeper._peers_of(release)
    observers = [id for id in peers if id.startswith("obs-")]
    assert len(observers) == CHUNK_PEERS_MAX
    assert peers[: len(observers)] == tuple(observers)
    assert peers[len(observers) :] == ("dev-2", "ops", "dev-1", "dev-3")
    assert keeper._peers_of(b"") == ()


# ------------------------------------------------------------------------------------------ keeper


def test_an_entry_of_an_earlier_boot_makes_nothing_fresh() -> None:
    """W5: the attestations must cover what this boot created; what the last one signed may have lain about for years."""
    fleet = started()
    fleet.passes = lambda sender, _receiver, _item: sender != "dev-1"
    fleet.note("dev-1")
    fleet.advance(50, 10)
    assert fleet["dev-1"].running.outstanding == 1
    fleet.crash("dev-1")
    fleet.passes = lambda _sender, _receiver, _item: True
    fleet.units["dev-1"].hold = lambda _operation: True
    fleet.start("dev-1")
    fleet.advance(2_000, 20)
    assert fleet["dev-1"].running.outstanding == 0, "it is in the log now"
    assert fleet.keeper("dev-1").updater.permits._own == []
    fleet.note("dev-1", b"of this boot", 2)
    fleet.advance(500, 20)
    assert len(fleet.keeper("dev-1").updater.permits._own) == 1


def test_a_voter_alone_sees_what_it_did_itself_in_the_same_turn() -> None:
    fleet = UpdatingFleet(1)
    # Nothing else comes that would wake it.
    fleet.units["dev-0"].test = lambda _status: None
    fleet.settle()
    device = fleet["dev-0"].running
    assert device.ledger.height > 0
    assert fleet.keeper("dev-0").has_seen(device.ledger.height)


def test_a_step_is_due_by_news_by_a_height_by_time_and_by_whoever_is_listened_for() -> None:
    fleet = started()
    fleet.advance(100, 10)
    keeper = fleet.keeper("dev-1")
    height = fleet["dev-1"].running.ledger.height
    now_ms = keeper._looked_ms + 1
    assert not keeper.is_due(now_ms, height)
    assert keeper.is_due(now_ms, height + 1)
    assert keeper.is_due(now_ms + LOOK_MS, height)
    keeper._voter.is_listening = True
    assert keeper.is_due(now_ms, height)
    keeper._voter.is_listening = False
    keeper.wake_at_ms = now_ms
    assert keeper.is_due(now_ms, height)
    keeper.wake_at_ms = None
    keeper.take_settled((), 0, None)
    assert keeper.is_due(now_ms, height)


# ------------------------------------------------------------------------------------------ attestation


def test_a_measured_boot_attests_the_head_before_the_start_in_every_report() -> None:
    fleet = UpdatingFleet()
    unit = fleet.units["dev-1"]
    asked: list[bytes] = []

    def measured(order: Operation) -> InstallDone | None:
        if isinstance(order, Attest):
            asked.append(order.nonce)
            proof = Attestation(
                kind="dice", slot="a", digest=b"\x01" * 32, nonce=order.nonce, signature=b"\x02" * 64
            )
            return InstallDone(0, order, proof)
        if isinstance(order, Inspect):
            done = unit.installer.run(order, 0)
            assert isinstance(done.answer, Inspection)
            capabilities = done.answer.capabilities | {Capability.MEASURED_BOOT}
            return replace(done, answer=replace(done.answer, capabilities=capabilities))
        return None

    unit.refuse = measured
    fleet.restart("dev-1")
    fleet.advance(500, 20)
    (report,) = [report for device, report, _ in fleet.reports() if device == "dev-1"][-1:]
    assert asked == [report.nonce_root]
    codec: Codec[tuple[str, str, bytes, bytes, bytes]] = Codec(
        tuple[str, str, bytes, bytes, bytes], bytes_max=512
    )
    assert codec.decode(report.attestation) == ("dice", "a", b"\x01" * 32, report.nonce_root, b"\x02" * 64)
    plain = [report for device, report, _ in fleet.reports() if device == "dev-2"][-1]
    assert plain.attestation == b"", "a word is no proof"


# ------------------------------------------------------------------------------------------ policy


@pytest.mark.parametrize(("approve", "operators"), [("auto", 1), (1, 1), (3, 3)])
def test_how_many_operators_must_ask(approve: Any, operators: int) -> None:
    assert FirmwarePolicy(approve=approve).operators == operators


def test_one_attempt_where_the_back_end_knows_no_more() -> None:
    canary = Canary(hold=kinds(ArmBoot))
    (order,) = canary.unit.held
    assert isinstance(order.operation, ArmBoot)
    keeper = canary.fleet.keeper(canary.id)
    permit = canary.fleet.record(canary.id).permit
    seen = keeper.updater.desk.inspection
    assert permit is not None
    assert seen is not None
    plan = canary.fleet.rollout(canary.id).plan(canary.plan)
    assert plan is not None
    plan.spec = type(plan.spec)(
        **{f: getattr(plan.spec, f) for f in plan.spec.__struct_fields__} | {"attempts": 3}
    )
    view = canary.fleet.members[canary.id].running._view(keeper, canary.fleet.now_ms)
    assert keeper.updater.permits._make_intent(view, permit, seen).attempts == 3
    one = replace(seen, capabilities=seen.capabilities - {Capability.MULTIPLE_ATTEMPTS})
    assert keeper.updater.permits._make_intent(view, permit, one).attempts == 1
