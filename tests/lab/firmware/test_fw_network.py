"""FIRMWARE section 9, what the network, the broker and a peer may do, and a device that was away."""

from __future__ import annotations

from pathlib import Path

import pytest

from swarm.device.turn import FrameIn
from swarm.lab.scenario.firmware_record import DeviceTruth, FirmwareRecord
from swarm.lab.sim.fleet import SimFleet
from swarm.lab.sim.releases import Releases
from swarm.lab.sim.world import World
from swarm.primitives.errors import StoreError
from swarm.storage.sqlite import SqliteStore, create_store
from swarm.transport.topics import Scope
from swarm.wire.messages import decode_frame, encode_frame
from swarm.wire.statements import Kind, SignedStatement
from tests.support.firmware_runs import QUICK, Run, play, play_config, swarm

ONLY_DEV_3 = "classes: {canary: [dev-3, obs-0], other: [dev-0, dev-1, dev-2]}"


class WithoutAttestations(World):
    """A world in which one device gets every block and certificate, and none of the attestations, until a time."""

    victim = "dev-3"
    until_ms = 30_000

    def _send(self, sender: str, receiver: str, frame: FrameIn) -> None:
        if receiver == self.victim and self.now_ms < self.until_ms:
            if frame.scope is Scope.BEAT:
                # A heartbeat carries its sender's newest attestation.
                return
            items = decode_frame(frame.payload)
            kept = tuple(i for i in items if not isinstance(i, SignedStatement) or i.kind != Kind.ATTEST)
            if not kept:
                return
            frame = FrameIn(frame.sender, frame.scope, encode_frame(kept))
        super()._send(sender, receiver, frame)


def test_fw_stale_head_is_no_ground_to_act() -> None:
    """Its permit is final and it sees it, but nobody attests the log from there on: it does not arm (W5)."""
    text = swarm(firmware=ONLY_DEV_3, plan="soak: 1s, deadline: 100s, trial: 10s", duration="100s")
    run = play(text, make=WithoutAttestations, until_ms=28_000)
    assert run.said("permitted", "dev-3")
    assert not run.said("armed", "dev-3")
    assert "dev-3" not in run.running("v2")
    later = play(text, make=WithoutAttestations)
    assert later.said("armed", "dev-3"), "with attestations it goes on"
    assert "dev-3" in later.running("v2")


def test_fw_stale_head_after_t_arm_is_declined_and_asked_anew() -> None:
    """An own entry older than T_arm is no ground: the device declines durably, which frees it, and asks again."""

    class Long(WithoutAttestations):
        until_ms = 60_000

    text = swarm(
        firmware=ONLY_DEV_3 + "\nt_arm: 20s", plan="soak: 1s, deadline: 120s, trial: 10s", duration="100s"
    )
    run = play(text, make=Long)
    declined = run.said("declined", "dev-3")
    assert declined
    assert len(run.said("permitted", "dev-3")) > len(declined)
    assert "dev-3" in run.running("v2")


class Recording(FirmwareRecord):
    """Remembers every image that a device ever started."""

    history: dict[str, list[str]]

    def on_truth(self, device: str, truth: DeviceTruth) -> None:
        self.__dict__.setdefault("history", {}).setdefault(device, []).append(truth.version)
        super().on_truth(device, truth)


def test_fw_offline_whole_rollout_follows_to_the_newest_only() -> None:
    """obs-0 is away for v2 and v3: back again it goes to v3 at once, and never runs v2."""

    class Historic(World):
        def _make_fleet(self, releases: Releases) -> SimFleet:
            fleet = super()._make_fleet(releases)
            fleet.record.__class__ = Recording
            return fleet

    run = play(
        swarm(
            observers=2,
            release="v2: {behaves: healthy}, v3: {behaves: healthy, number: 3}",
            plan="soak: 1s, deadline: 20s, trial: 8s, retries: 0",
            orders=(
                "at: 80s, firmware: {propose: v3}",
                "at: 81s, firmware: {approve: v3}",
                "at: 82s, firmware: {plan: {release: v3, soak: 1s, deadline: 20s, trial: 8s, retries: 0}}",
            ),
            faults=("at: 2s, crash: [obs-0]", "at: 160s, restart: [obs-0]"),
            duration="200s",
        ),
        make=Historic,
    )
    assert [plan.state for plan in run.firmware.plans] == ["completed", "completed"]
    assert len(run.running("v3")) == 6
    record = run.world.collector.firmware
    assert isinstance(record, Recording)
    assert "v2" not in record.history["obs-0"]
    assert "v2" in record.history["obs-1"]


def test_fw_offline_whole_rollout_and_past_use_before() -> None:
    """A release with a last height gets no permit above it: who comes back later stays where it is."""
    run = play(
        swarm(
            observers=2,
            release="v2: {use_before: 100}",
            plan="soak: 1s, deadline: 20s, trial: 8s, retries: 0",
            faults=("at: 2s, crash: [obs-0]", "at: 150s, restart: [obs-0]"),
            orders=("rate: 1/s, submit: {bytes: 20}",),
            duration="190s",
        )
    )
    assert run.plan.state == "completed"
    assert run.running("factory") == ["obs-0"]
    assert run.result.devices["obs-0"].up


def test_fw_offline_whole_rollout_of_a_config() -> None:
    run = play_config("offline")
    assert len(run.running("v2")) == 6
    assert "obs-0" in [name for stage in run.plan.stages for name in stage.missed]


def test_fw_broker_drops_replays_reorders() -> None:
    run = play_config("lossy")
    assert run.plan.state == "completed"
    assert run.result.messages.dropped > 500


def test_fw_broker_splits_in_the_middle_of_a_stage() -> None:
    run = play_config("partition")
    assert run.plan.state == "completed"
    assert len(run.running("v2")) == 6


@pytest.mark.parametrize("seed", range(4))
def test_fw_broker_replays_everything(seed: int) -> None:
    """Half of all messages come twice, half of them late: own entries alone have effects, and each of them once."""
    run = play(
        swarm(
            extra="network: {latency: {median: 15ms, p99: 400ms}, duplicate: 0.5, reorder: 0.5}",
            duration="100s",
            plan="soak: 1s, deadline: 60s, trial: 20s",
        ),
        seed=seed,
    )
    assert run.plan.state == "completed"
    assert len(run.running("v2")) == 5


def bad_server(attack: str, *, size: int, duration: str) -> Run:
    """Let dev-3 be the first to hold the release, and then serve it to all others in its own way."""
    text = swarm(
        observers=2,
        release=f"v2: {{behaves: healthy, bytes: {size}}}",
        faults=(f"at: 0s, byzantine: {{device: dev-3, attack: {attack}}}",),
        plan="soak: 1s, deadline: 400s, trial: 30s",
        duration=duration,
    )
    for seed in range(20):
        start = play(text, seed=seed, until_ms=9_000)
        if [m.device for stage in start.plan.stages[:1] for m in stage.members] == ["dev-3"]:
            return play(text, seed=seed)
    pytest.fail("dev-3 is never drawn first")


def test_fw_bad_chunk_never_touches_the_flash() -> None:
    """Whoever sends other bytes is named and asked last, and everybody gets the release."""
    run = bad_server("bad-chunks", size=40_000, duration="80s")
    assert run.plan.state == "completed"
    assert len(run.running("v2")) == 6
    assert run.firmware.chunks.refused > 0
    assert {data["peer"] for data in run.said("bad-chunk")} == {"dev-3"}


def test_fw_endless_data_is_cut_off() -> None:
    """Twenty-five frames for one: what was not asked for is dropped at the door, and costs no flash."""
    run = bad_server("endless-chunks", size=40_000, duration="80s")
    assert run.plan.state == "completed"
    assert len(run.running("v2")) == 6
    assert run.firmware.chunks.bytes <= 6 * 40_000, "nothing was written twice"
    assert run.firmware.chunks.sent > 25, "it did send without end"
    dropped = [node.device.dropped for node in run.world.nodes.values() if node.device is not None]
    assert any(sum(reasons.values()) >= 20 for reasons in dropped), dropped


def test_fw_slow_peer_is_left_for_another() -> None:
    run = bad_server("slow-chunks", size=60_000, duration="120s")
    assert run.plan.state == "completed"
    assert len(run.running("v2")) == 6
    left = {data["peer"] for what in ("left-slow", "left-silent") for data in run.said(what)}
    assert left == {"dev-3"}


@pytest.fixture
def store_file(tmp_path: Path) -> Path:
    path = tmp_path / "dev-0.sqlite"
    create_store(path, swarm_id=b"s" * 32, device="dev-0", key_public=b"k" * 32)
    return path


def test_fw_double_start_of_two_agents_on_one_store(store_file: Path) -> None:
    """Two processes with one store are two devices with one key: the second one does not start."""
    first = SqliteStore(store_file, swarm_id=b"s" * 32, device="dev-0", key_public=b"k" * 32)
    try:
        with pytest.raises(StoreError, match="another process"):
            SqliteStore(store_file, swarm_id=b"s" * 32, device="dev-0", key_public=b"k" * 32)
    finally:
        first.close()
    SqliteStore(store_file, swarm_id=b"s" * 32, device="dev-0", key_public=b"k" * 32).close()


def test_fw_double_start_in_the_middle_of_an_update() -> None:
    """A device that is started twice at every moment of its update: each start finds what the last one made durable."""
    faults = []
    for number, at_ms in enumerate(range(4_000, 7_000, 500)):
        faults.append(f"at: {at_ms}ms, power_cut: [dev-{number % 4}], for: 200ms")
    run = play(swarm(faults=tuple(faults), duration="90s", plan=QUICK.replace("10s", "9s") + ", retries: 3"))
    assert run.plan.state in ("completed", "frozen")
    assert all(row.version in ("v2", "factory") for row in run.firmware.devices.values())
