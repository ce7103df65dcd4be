"""FIRMWARE section 9, what somebody may try with releases, keys and images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import pytest

from swarm.device.turn import OutFrame, Turn
from swarm.install.image import ImageRules
from swarm.install.port import BootNonce, InstallError, InstallPlan, InstallReason, Intent, Outcome
from swarm.lab.attackers.attack import Insider
from swarm.lab.attackers.chunks import BadChunks
from swarm.lab.install_simulated.backend import SimulatedBackend
from swarm.lab.install_simulated.medium import SimulatedMedium
from swarm.lab.scenario.firmware import class_ids
from swarm.lab.scenario.parse import parse_scenario
from swarm.lab.sim.releases import MadeRelease, Releases
from swarm.lab.sim.world import World, keypair_of
from tests.support.firmware_runs import QUICK, play, play_config, swarm

SWARM = b"s" * 32


def make_releases(release: str) -> Releases:
    scenario = parse_scenario(swarm(release=release), "test")
    assert scenario.firmware is not None
    releases = Releases(scenario, scenario.firmware)
    releases.make(SWARM)
    return releases


def factory_fresh(releases: Releases) -> SimulatedMedium:
    vendor, device_class = class_ids("device")
    rules = ImageRules(keys=(releases.image_key.public,), vendor=vendor, device_class=device_class)
    medium = SimulatedMedium(rules)
    factory = releases.factory("device")
    medium.set_up(factory.plan, factory.file)
    medium.power_on()
    return medium


def install(medium: SimulatedMedium, plan: InstallPlan, file: bytes) -> None:
    """Fetch and seal, as a device does that was told this plan."""
    backend = SimulatedBackend(medium)
    staging = backend.begin(plan)
    for index in range(plan.chunk_count):
        start = index * plan.chunk_bytes
        staging.write_chunk(index, file[start : start + plan.length_of(index)])
    staging.checkpoint()
    backend.seal(staging)


def refusal(action: Callable[[], object]) -> InstallReason:
    with pytest.raises(InstallError) as caught:
        action()
    return caught.value.reason


def test_fw_arbitrary_image_of_nobody() -> None:
    """No signature, or too few: the log does not even know the release; and nobody approves for a voter."""
    run = play(
        swarm(
            plan=None,
            duration="20s",
            orders=(
                "at: 1s, firmware: {propose: {release: v2, signers: 0}}",
                "at: 2s, firmware: {propose: {release: v2, signers: 1}}",
            ),
        )
    )
    assert run.state_of("v2") == "unknown"
    run = play(
        swarm(
            plan=None,
            duration="20s",
            faults=("at: 1s, stolen_keys: 2, release: v2, from: dev-3",),
        )
    )
    assert run.state_of("v2") == "proposed", (
        "a voter with all keys may propose, and no operator asked for more"
    )
    assert len(run.running("factory")) == 5


def test_fw_arbitrary_bytes_on_a_device() -> None:
    """Whatever the peers sent: the plan's hashes come from the log, and the image is verified before it is sealed."""
    releases = make_releases("v2: {behaves: healthy}, v3: {behaves: crash}")
    wanted, other = releases.made["v2"], releases.made["v3"]
    medium = factory_fresh(releases)
    assert refusal(lambda: install(medium, wanted.plan, other.file)) in (
        InstallReason.WRONG_CHUNK_ROOT,
        InstallReason.WRONG_FILE,
    )
    forged = bytearray(wanted.file)
    forged[100] ^= 1
    lie = replace(wanted.plan, file_digest=b"x" * 32)
    assert refusal(lambda: install(factory_fresh(releases), lie, wanted.file)) is InstallReason.WRONG_FILE
    foreign = make_releases("v2: {behaves: healthy}")
    foreign.image_key = foreign.key("somebody else", 0)
    foreign.make(SWARM)
    alien = foreign.made["v2"]
    assert refusal(lambda: install(factory_fresh(releases), alien.plan, alien.file)) is (
        InstallReason.IMAGE_REFUSED
    )


def test_fw_arbitrary_image_put_into_the_flash() -> None:
    """Whoever writes into the spare slot behind the device's back finds that the bootloader looks at what is there."""
    releases = make_releases("v2: {behaves: healthy}")
    medium = factory_fresh(releases)
    made = releases.made["v2"]
    install(medium, made.plan, made.file)
    nonce = BootNonce(height=1, root=b"r" * 32)
    SimulatedBackend(medium).arm(Intent(release=made.id, permit=9, nonce=nonce, attempts=1, trial_ms=10_000))
    flash, layout = medium.chips.flash, medium.chips.layout
    start = layout.secondary.at(1)
    for sector in range(2):
        flash.erase(start + sector * layout.sector)
    flash.program(start, b"\x55" * layout.sector)
    medium.power_off()
    boot = medium.power_on()
    assert boot.digest == releases.factory("device").digest
    outcome = SimulatedBackend(medium).outcome()
    assert (outcome.outcome, outcome.permit) == (Outcome.REVERTED, 9)


def test_fw_downgrade_by_number() -> None:
    """Below the newest approved release nothing can be proposed, not even with all keys."""
    run = play(
        swarm(
            release="v3: {number: 3}, v2: {number: 2, behaves: crash}",
            plan=None,
            duration="60s",
            orders=(
                "at: 1s, firmware: {propose: v3}",
                "at: 2s, firmware: {approve: v3}",
                f"at: 3s, firmware: {{plan: {{release: v3, {QUICK}}}}}",
            ),
            faults=("at: 40s, stolen_keys: 3, release: v2, from: ops-0",),
        )
    )
    assert run.plan.state == "completed"
    assert run.state_of("v2") == "unknown"
    assert len(run.running("v3")) == 5


def test_fw_downgrade_by_counter() -> None:
    """After `completed` the counter is raised, and no image with a lower one gets into the slot."""
    run = play(swarm(release="v2: {counter: 5}", duration="60s"))
    assert run.plan.state == "completed"
    assert {row.counter for row in run.firmware.devices.values()} == {5}
    board = run.world.nodes["dev-0"].board
    assert board is not None
    fleet = run.world.fleet
    assert fleet is not None
    older = fleet.releases.factory("device")
    backend = SimulatedBackend(board.medium)
    assert refusal(partial(backend.begin, older.plan)) is InstallReason.OLD_COUNTER


def test_fw_mix_and_match() -> None:
    """v2 of the gateways needs s2 of the sensors: no gateway gets a permit before that rollout is completed."""
    run = play(
        swarm(
            observers=2,
            firmware="classes: {gateway: voters, sensor: observers}",
            release="v2: {class: gateway, needs: {sensor: 3}}, s2: {class: sensor, number: 3}",
            duration="80s",
            plan="soak: 1s, deadline: 60s, trial: 10s",
            orders=(
                "at: 20s, firmware: {propose: s2}",
                "at: 21s, firmware: {approve: s2}",
                f"at: 22s, firmware: {{plan: {{release: s2, {QUICK}}}}}",
            ),
        )
    )
    states = {row.release: row for row in run.firmware.plans}
    assert {row.state for row in states.values()} == {"completed"}
    ids = {row.version: row.id for row in run.firmware.releases}
    sensors_done = states[ids["s2"]].stages[-1].opened_height
    permits = [m.permit_height for stage in states[ids["v2"]].stages for m in stage.members]
    assert len(permits) == 4
    assert min(permits) > sensors_done


def test_fw_keys_below_the_threshold() -> None:
    run = play_config("server-compromised")
    assert run.state_of("stolen") == "unknown"
    assert run.plan.state == "completed"


def test_fw_keys_at_the_threshold_and_an_operator() -> None:
    """All keys and an operator's: one voter is lost, nobody else gets a permit, and the log goes on."""
    run = play_config("keys-stolen")
    assert run.state_of("v2") == "approved"
    assert len(run.running("v2")) == 1
    assert run.firmware.at_risk_max == 1


def test_fw_keys_at_the_threshold_after_a_rotation() -> None:
    """Once q voters changed the keys, those that were stolen make nothing."""
    run = play(
        swarm(
            plan=None,
            duration="40s",
            orders=("at: 2s, firmware: {keys: 2of3}",),
            faults=("at: 20s, stolen_keys: 3, release: v2, from: ops-0",),
        )
    )
    assert run.rollout.state.keys.epoch == 1
    assert run.state_of("v2") == "unknown"


def test_fw_contradiction_freezes_until_one_survives() -> None:
    run = play_config("contradiction")
    assert run.state_of("twin") == "contradicted"
    assert run.plan.generation == 1, "it took a resume"
    assert len(run.running("v2")) == 6


class OwnedServer(World):
    """A world in which the machine of ops-0, where the release comes from, sends other bytes."""

    def _publish(self, sender: str, frame: OutFrame) -> None:
        if sender == "ops-0" and frame.bulk:
            insider = Insider(
                id=sender, keypair=keypair_of(self.scenario, sender), genesis=self.genesis, seed=1
            )
            (frame,) = BadChunks(insider).change(Turn(frames=(frame,))).frames
        super()._publish(sender, frame)


def test_fw_server_that_is_owned_is_only_a_peer() -> None:
    """Its chunks are dropped before the flash and it is named; the other operator's machine serves as well."""
    run = play(swarm(operators=2), make=OwnedServer)
    assert run.plan.state == "completed"
    assert len(run.running("v2")) == 5
    assert run.firmware.chunks.refused > 0
    assert {data["peer"] for data in run.said("bad-chunk")} == {"ops-0"}


def test_fw_server_that_is_owned_and_alone_can_withhold_and_no_more() -> None:
    run = play(swarm(operators=1, duration="100s", plan=QUICK + ", retries: 0"), make=OwnedServer)
    assert run.running("v2") == []
    assert run.plan.state == "frozen"
    assert run.plan.halted_by == "late"


def test_two_releases_with_one_number_are_two_images() -> None:
    releases = make_releases("v2: {behaves: healthy}, twin: {behaves: healthy, number: 2}")
    made: list[MadeRelease] = list(releases.made.values())
    assert made[0].digest != made[1].digest
    assert [release.plan.number for release in made] == [2, 2]
