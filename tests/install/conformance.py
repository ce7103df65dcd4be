"""What every install back end does: one suite, run against each on its own medium (a subclass gives the `rig`)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from swarm.install.port import (
    Capability,
    InstallBackend,
    InstallError,
    InstallReason,
    Outcome,
    SlotState,
)
from tests.support.install import NONCE, Rig, fetch, install, intent_for, into_trial, running, stage


def refused(call: Callable[[], object]) -> InstallReason:
    with pytest.raises(InstallError) as caught:
        call()
    return caught.value.reason


class Conformance:
    """Tests of the port; the states are those of FIRMWARE section 6."""

    # ------------------------------------------------------------------------- the way of an update

    def test_a_fresh_device_is_settled(self, rig: Rig) -> None:
        backend = rig.start()
        status = backend.status()
        assert status.settled
        assert status.running.state is SlotState.CONFIRMED
        assert status.spare.state is SlotState.EMPTY
        assert running(status) == 1
        assert backend.outcome().outcome is Outcome.NONE
        assert backend.status() == status, "asking changes nothing"

    def test_an_update_from_fetching_to_confirmed(self, rig: Rig) -> None:
        release = rig.release(2)
        backend = rig.start()
        staging = backend.begin(release.plan)
        assert staging.plan == release.plan
        assert backend.status().spare.state is SlotState.FETCHING
        sealed = backend.seal(fetch(backend, release))
        assert (sealed.state, sealed.number, sealed.digest) == (
            SlotState.STAGED,
            2,
            release.plan.image_digest,
        )
        backend.arm(intent_for(release))
        assert backend.status().spare.state is SlotState.ARMED
        assert not backend.status().settled
        outcome = backend.outcome()
        assert (outcome.outcome, outcome.permit, outcome.release) == (
            Outcome.ARMED,
            102,
            release.plan.release,
        )
        assert outcome.nonce == NONCE
        backend.activate()

        trial = rig.start()
        status = trial.status()
        assert (running(status), status.running.state, status.settled) == (2, SlotState.TRIAL, False)
        assert status.spare.state is SlotState.CONFIRMED
        outcome = trial.outcome()
        assert (outcome.outcome, outcome.permit, outcome.attempts) == (Outcome.TRIAL, 102, 1)
        trial.confirm()
        assert trial.status().settled
        assert trial.outcome().outcome is Outcome.CONFIRMED

        later = rig.start()
        status = later.status()
        assert (running(status), status.running.state) == (2, SlotState.CONFIRMED)
        assert (status.spare.number, status.spare.state) == (1, SlotState.PREVIOUS)
        assert (later.outcome().outcome, later.outcome().permit) == (Outcome.CONFIRMED, 102)

    def test_everything_idempotent_may_be_said_twice(self, rig: Rig) -> None:
        release = rig.release(2)
        backend = rig.start()
        staging = fetch(backend, release)
        staging.write_chunk(0, release.chunks[0])
        staging.checkpoint()
        assert backend.seal(staging) == backend.seal(staging)
        assert backend.seal(backend.begin(release.plan)).state is SlotState.STAGED
        backend.arm(intent_for(release))
        backend.arm(intent_for(release))
        trial = rig.start()
        trial.confirm()
        trial.confirm()
        trial.raise_counter(1)
        trial.raise_counter(1)
        trial.raise_counter(0)
        trial.revoke(b"\x55" * 32)
        trial.revoke(b"\x55" * 32)
        trial.discard()
        trial.discard()
        assert trial.status().revoked == (b"\x55" * 32,)
        assert trial.status().counter == 1

    def test_boots_are_counted(self, rig: Rig) -> None:
        first = rig.start().status().boots
        assert rig.start().status().boots == first + 1

    # ------------------------------------------------------------------------- fetching

    def test_fetching_goes_on_at_the_durable_bitmap(self, rig: Rig) -> None:
        release = rig.release(2)
        staging = rig.start().begin(release.plan)
        assert staging.have().missing() == list(range(release.plan.chunk_count))
        staging.write_chunk(0, release.chunks[0])
        assert 0 not in staging.have(), "nothing is claimed before the checkpoint"
        staging.checkpoint()
        assert 0 in staging.have()
        again = rig.start().begin(release.plan)
        assert again.have().missing() == list(range(1, release.plan.chunk_count))

    def test_another_plan_starts_anew(self, rig: Rig) -> None:
        backend = rig.start()
        fetch(backend, rig.release(2))
        assert backend.begin(rig.release(3).plan).have().missing()

    def test_chunks_of_the_wrong_size_or_place(self, rig: Rig) -> None:
        release = rig.release(2)
        staging = rig.start().begin(release.plan)
        count = release.plan.chunk_count
        for index, data in [
            (0, release.chunks[0][:-1]),
            (0, release.chunks[0] + b"x"),
            (0, b""),
            (count - 1, release.chunks[0] + b"x"),
            (count, release.chunks[0]),
            (-1, release.chunks[-1]),
        ]:
            assert refused(lambda index=index, data=data: staging.write_chunk(index, data)) is (  # type: ignore[misc]
                InstallReason.WRONG_CHUNK
            )

    def test_plans_that_no_device_takes(self, rig: Rig) -> None:
        backend = rig.start()
        plan = rig.release(2).plan
        for changed, reason in [
            (replace(plan, vendor=bytes(16)), InstallReason.WRONG_CLASS),
            (replace(plan, device_class=bytes(16)), InstallReason.WRONG_CLASS),
            (replace(plan, chunk_bytes=5000), InstallReason.BAD_PLAN),
            (replace(plan, chunk_bytes=2048), InstallReason.BAD_PLAN),
            (replace(plan, chunk_count=plan.chunk_count + 1), InstallReason.BAD_PLAN),
            (replace(plan, release=b"short"), InstallReason.BAD_PLAN),
            (replace(plan, file_bytes=0, chunk_count=0), InstallReason.BAD_PLAN),
            (replace(plan, counter=0), InstallReason.OLD_COUNTER),
            (
                replace(plan, file_bytes=1 << 31, chunk_count=(1 << 31) // plan.chunk_bytes),
                InstallReason.OVERSIZED,
            ),
        ]:
            assert refused(lambda changed=changed: backend.begin(changed)) is reason  # type: ignore[misc]
        assert backend.status().spare.state is SlotState.EMPTY

    # ------------------------------------------------------------------------- seal

    def test_nothing_incomplete_is_sealed(self, rig: Rig) -> None:
        release = rig.release(2)
        backend = rig.start()
        staging = backend.begin(release.plan)
        staging.write_chunk(0, release.chunks[0])
        staging.checkpoint()
        assert refused(lambda: backend.seal(staging)) is InstallReason.INCOMPLETE
        assert 0 in backend.begin(release.plan).have(), "what is there stays"

    @pytest.mark.parametrize(
        ("field", "reason"),
        [
            ("chunk_root", InstallReason.WRONG_CHUNK_ROOT),
            ("file_digest", InstallReason.WRONG_FILE),
            ("image_digest", InstallReason.WRONG_DIGEST),
        ],
    )
    def test_nothing_wrong_is_sealed(self, rig: Rig, field: str, reason: InstallReason) -> None:
        release = rig.release(2).with_plan(**{field: b"\x13" * 32})
        backend = rig.start()
        assert refused(lambda: backend.seal(fetch(backend, release))) is reason
        assert refused(lambda: backend.arm(intent_for(release))) is InstallReason.NOT_SEALED
        assert running(rig.start().status()) == 1

    def test_an_image_that_the_verifier_refuses(self, rig: Rig) -> None:
        release = rig.damage_image(rig.release(2))
        backend = rig.start()
        assert refused(lambda: backend.seal(fetch(backend, release))) is InstallReason.IMAGE_REFUSED
        assert refused(lambda: backend.arm(intent_for(release))) is InstallReason.NOT_SEALED
        assert backend.status().settled

    def test_discard_drops_what_was_never_confirmed(self, rig: Rig) -> None:
        release = rig.release(2)
        backend = rig.start()
        stage(backend, release)
        backend.discard()
        assert backend.status().spare.state is SlotState.EMPTY
        assert refused(lambda: backend.arm(intent_for(release))) is InstallReason.NOT_SEALED

    def test_discard_keeps_the_way_back(self, rig: Rig) -> None:
        backend = install(rig, rig.release(2))
        backend.begin(rig.release(3).plan)
        backend.discard()
        assert backend.status().spare.state is SlotState.PREVIOUS

    # ------------------------------------------------------------------------- arm, withdraw, decline

    def test_an_unsettled_device_does_not_touch_the_other_slot(self, rig: Rig) -> None:
        release, other = rig.release(2), rig.release(3)
        backend = rig.start()
        staging = fetch(backend, release)
        backend.seal(staging)
        backend.arm(intent_for(release))
        for state in (backend, rig.start()):
            calls: list[Callable[[], object]] = [
                lambda state=state: state.begin(other.plan),  # type: ignore[misc]
                lambda state=state: state.seal(staging),  # type: ignore[misc]
                lambda state=state: state.discard(),  # type: ignore[misc]
                lambda state=state: state.raise_counter(1),  # type: ignore[misc]
                lambda state=state: state.arm(intent_for(release, permit=500)),  # type: ignore[misc]
            ]
            assert {refused(call) for call in calls} == {InstallReason.NOT_SETTLED}

    def test_a_damaged_seal_is_not_armed(self, rig: Rig) -> None:
        release = rig.release(2)
        backend = rig.start()
        stage(backend, release)
        rig.damage_sealed()
        assert refused(lambda: backend.arm(intent_for(release))) is InstallReason.WRONG_DIGEST

    def test_a_damaged_armed_slot_is_not_started(self, rig: Rig) -> None:
        release = rig.release(2)
        backend = rig.start()
        backend.arm(stage(backend, release))
        rig.damage_sealed()
        after = rig.start()
        assert running(after.status()) == 1
        assert (after.outcome().outcome, after.outcome().permit) == (Outcome.REVERTED, 102)

    def test_only_what_is_armed_is_activated(self, rig: Rig) -> None:
        backend = rig.start()
        assert refused(backend.activate) is InstallReason.NOT_ARMED
        assert refused(backend.withdraw) is InstallReason.NOT_ARMED

    def test_withdrawn_is_never_tried_and_the_permit_is_used(self, rig: Rig) -> None:
        release = rig.release(2)
        backend = rig.start()
        backend.arm(stage(backend, release))
        backend.withdraw()
        backend.withdraw()
        assert refused(backend.activate) is InstallReason.NOT_ARMED
        after = rig.start()
        assert running(after.status()) == 1
        assert (after.outcome().outcome, after.outcome().permit) == (Outcome.NEVER_TRIED, 102)
        assert after.status().spare.state is SlotState.STAGED
        assert refused(lambda: after.arm(intent_for(release))) is InstallReason.PERMIT_USED
        after.arm(intent_for(release, permit=103))
        assert running(rig.start().status()) == 2

    def test_a_permit_is_declined_or_acted_upon_never_both(self, rig: Rig) -> None:
        release = rig.release(2)
        backend = rig.start()
        stage(backend, release)
        backend.decline(102)
        backend.decline(102)
        after = rig.start()
        assert refused(lambda: after.arm(intent_for(release))) is InstallReason.PERMIT_DECLINED
        after.arm(intent_for(release, permit=103))
        assert refused(lambda: after.decline(103)) is InstallReason.INTENT_WRITTEN
        after.withdraw()
        assert refused(lambda: after.decline(103)) is InstallReason.INTENT_WRITTEN
        assert refused(lambda: after.decline(102)) is InstallReason.INTENT_WRITTEN

    def test_intents_that_mean_nothing(self, rig: Rig) -> None:
        release = rig.release(2)
        backend = rig.start()
        good = stage(backend, release)
        for wrong in (replace(good, permit=0), replace(good, attempts=0), replace(good, trial_ms=0)):
            assert refused(lambda wrong=wrong: backend.arm(wrong)) is InstallReason.BAD_PLAN  # type: ignore[misc]

    # ------------------------------------------------------------------------- trial

    def test_a_trial_that_the_agent_reverts(self, rig: Rig) -> None:
        release = rig.release(2)
        trial = into_trial(rig, release)
        trial.revert("self-test")
        after = rig.start()
        outcome = after.outcome()
        assert (outcome.outcome, outcome.reason, outcome.permit) == (Outcome.REVERTED, "self-test", 102)
        assert (running(after.status()), after.status().settled) == (1, True)
        assert after.status().spare.state is SlotState.FAILED
        assert refused(after.confirm) is InstallReason.NOT_IN_TRIAL
        assert refused(lambda: after.revert("again")) is InstallReason.NOT_IN_TRIAL
        assert refused(lambda: after.arm(intent_for(release))) is InstallReason.PERMIT_USED

    def test_a_confirm_after_the_revert_is_refused(self, rig: Rig) -> None:
        trial = into_trial(rig, rig.release(2))
        trial.revert("self-test")
        assert refused(trial.confirm) is InstallReason.NOT_IN_TRIAL

    def test_attempts_are_used_up_by_starts(self, rig: Rig) -> None:
        into_trial(rig, rig.release(2), attempts=rig.attempts)
        for attempt in range(2, rig.attempts + 1):
            trial = rig.start()
            assert (running(trial.status()), trial.outcome().attempts) == (2, attempt)
        after = rig.start()
        outcome = after.outcome()
        assert running(after.status()) == 1
        assert (outcome.outcome, outcome.reason) == (Outcome.REVERTED, "attempts-used-up")
        assert running(rig.start().status()) == 1

    def test_a_device_that_runs_the_confirmed_image_cannot_confirm_another(self, rig: Rig) -> None:
        backend = rig.start()
        backend.arm(stage(backend, rig.release(2)))
        assert refused(backend.confirm) is InstallReason.NOT_IN_TRIAL
        assert refused(lambda: backend.revert("no")) is InstallReason.NOT_IN_TRIAL

    # ------------------------------------------------------------------------- back, counters, revocations

    def test_rollback_is_an_arm_of_the_previous_image(self, rig: Rig) -> None:
        backend = install(rig, rig.release(2))
        if Capability.REVERT_AFTER_CONFIRM not in backend.capabilities():
            pytest.skip("this back end cannot go back after a confirmation")
        previous = replace(intent_for(rig.release(1)), permit=200, release=backend.status().spare.release)
        backend.arm(previous)
        trial = rig.start()
        assert (running(trial.status()), trial.outcome().outcome) == (1, Outcome.TRIAL)
        trial.confirm()
        status = rig.start().status()
        assert (running(status), status.spare.number, status.spare.state) == (1, 2, SlotState.PREVIOUS)

    def test_the_counter_only_grows_and_never_above_the_confirmed_image(self, rig: Rig) -> None:
        backend = install(rig, rig.release(2, counter=5))
        assert backend.status().counter == 1, "raised only when somebody says so"
        assert refused(lambda: backend.raise_counter(6)) is InstallReason.COUNTER_TOO_HIGH
        backend.raise_counter(5)
        backend.raise_counter(3)
        after = rig.start()
        assert after.status().counter == 5
        old = replace(intent_for(rig.release(1)), permit=200, release=after.status().spare.release)
        assert refused(lambda: after.arm(old)) is InstallReason.OLD_COUNTER
        assert refused(lambda: after.begin(rig.release(3, counter=4).plan)) is InstallReason.OLD_COUNTER

    def test_a_revoked_release_is_neither_fetched_nor_sealed_nor_armed(self, rig: Rig) -> None:
        release = rig.release(2)
        backend = rig.start()
        staging = fetch(backend, release)
        backend.revoke(release.plan.release)
        assert refused(lambda: backend.seal(staging)) is InstallReason.REVOKED
        assert refused(lambda: backend.begin(release.plan)) is InstallReason.REVOKED
        other = rig.release(3)
        intent = stage(backend, other)
        backend.revoke(other.plan.release)
        assert refused(lambda: backend.arm(intent)) is InstallReason.REVOKED
        assert backend.status().revoked == tuple(sorted([release.plan.release, other.plan.release]))

    def test_a_revoked_trial_is_not_started_again(self, rig: Rig) -> None:
        release = rig.release(2)
        into_trial(rig, release, attempts=rig.attempts).revoke(release.plan.release)
        after = rig.start()
        assert running(after.status()) == 1
        assert after.outcome().outcome is Outcome.REVERTED

    def test_a_revoked_slot_is_left_while_the_other_one_will_do(self, rig: Rig) -> None:
        release = rig.release(2)
        install(rig, release).revoke(release.plan.release)
        after = rig.start()
        assert running(after.status()) == 1
        assert (after.outcome().outcome, after.outcome().reason) == (Outcome.FELL_BACK, "revoked")
        assert after.status().settled

    def test_a_revoked_slot_runs_where_nothing_else_can(self, rig: Rig) -> None:
        backend = rig.start()
        backend.revoke(backend.status().running.release)
        assert running(rig.start().status()) == 1

    # ------------------------------------------------------------------------- reading

    def test_the_running_file_can_be_read_byte_for_byte(self, rig: Rig) -> None:
        release = rig.release(2)
        backend = install(rig, release)
        if Capability.READ_BOOTED not in backend.capabilities():
            pytest.skip("this back end cannot read the running image")
        length = release.plan.file_bytes
        assert backend.read_booted(0, length) == release.data
        for offset in range(0, length, 997):
            count = min(1300, length - offset)
            assert backend.read_booted(offset, count) == release.data[offset : offset + count]
        assert backend.read_booted(length, 0) == b""
        for offset, count in [(0, length + 1), (-1, 1), (0, -1), (length, 1)]:
            with pytest.raises(InstallError, match="out-of-range"):
                backend.read_booted(offset, count)

    def test_the_sealed_file_can_be_served(self, rig: Rig) -> None:
        release = rig.release(2)
        backend = rig.start()
        assert refused(lambda: backend.read_sealed(0, 1)) is InstallReason.NOT_SEALED
        stage(backend, release)
        assert backend.read_sealed(0, release.plan.file_bytes) == release.data

    def test_what_it_says_it_runs(self, rig: Rig) -> None:
        release = rig.release(2)
        backend: InstallBackend = install(rig, release)
        said = backend.attest(b"\x66" * 32)
        assert (said.digest, said.nonce) == (release.plan.image_digest, b"\x66" * 32)
        is_measured = Capability.MEASURED_BOOT in backend.capabilities()
        assert (said.kind == "self-report") is not is_measured
        assert bool(said.signature) is is_measured
