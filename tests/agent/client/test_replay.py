"""A light client replays the log: real devices in virtual time, and blocks that must not be believed."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
import pytest

from swarm.agent.client.belief import Belief
from swarm.agent.client.connect import connect
from swarm.agent.client.replay import Logged, Replay, keep_replay, kept_replay, new_replay
from swarm.agent.client.results import SwarmStatus
from swarm.agent.client.turn import VerifiedBlocks, WantBlocks, WantStatus, WantSubmit
from swarm.apps.rollout.entries import Propose, encode_command
from swarm.apps.rollout.events import Proposed
from swarm.apps.rollout.manifest import encode_manifest, release_id, sign_release, sorted_signatures
from swarm.crypto.signing import verify
from swarm.primitives.errors import ConfigError, DecodeError, InvariantError, ProofError
from swarm.wire.genesis import Genesis
from swarm.wire.messages import Block, Blocks, Command, decode_frame
from swarm.wire.statements import Certificate, genesis_header, header_hash
from tests.support.commands import swarm
from tests.support.light_swarm import LightSwarm
from tests.support.rollouts import make_manifest, make_rollout_genesis, release_keypairs
from tests.support.swarms import make_genesis


def proposal(genesis: Genesis, number: int = 2) -> bytes:
    manifest = encode_manifest(make_manifest(genesis.id, number))
    signatures = sorted_signatures(
        sign_release(pair, release_id(manifest)) for pair in release_keypairs()[:2]
    )
    return encode_command(Propose(manifest, signatures))


def submit(light: LightSwarm, app: str, body: bytes) -> None:
    light.until(WantSubmit(light.ticket(), Command(app=app, body=body)))


def blocks_after(light: LightSwarm, replay: Replay, *, wait_ms: int = 3_000) -> VerifiedBlocks:
    want = WantBlocks(light.ticket(), replay.height + 1, replay.tip, wait_ms)
    result = light.until(want)
    assert isinstance(result, VerifiedBlocks)
    return result


@pytest.fixture(scope="module")
def served() -> tuple[Genesis, Blocks]:
    """Return real blocks with their certificate, as a member sends them."""
    light = LightSwarm(genesis=make_rollout_genesis())
    for text in (b"one", b"two", b"three"):
        submit(light, "notes", text)
    answers: list[Blocks] = []
    light._client_turn_plain = light._client_turn  # type: ignore[attr-defined]

    def listen(inputs: list[object]) -> None:
        for frame in inputs:
            payload = getattr(frame, "payload", b"")
            if payload:
                answers.extend(item for item in decode_frame(payload) if isinstance(item, Blocks))
        light._client_turn_plain(inputs)  # type: ignore[attr-defined]

    light._client_turn = listen  # type: ignore[assignment, method-assign]
    blocks_after(light, Replay(light.genesis))
    return light.genesis, answers[0]


def test_the_replayed_log_is_the_devices_log() -> None:
    light = LightSwarm(genesis=make_rollout_genesis())
    replay = Replay(light.genesis)
    for number in range(5):
        submit(light, "notes", b"%d" % number)
    submit(light, "rollout", proposal(light.genesis))
    status = light.until(WantStatus(light.ticket(), 2_000))
    assert isinstance(status, SwarmStatus)
    target = status.reliable_height
    assert target is not None
    logged: list[Logged] = []
    while replay.height < target:
        logged += replay.absorb(blocks_after(light, replay).blocks)
    device = light.devices["dev-0"]
    assert replay.height == device.ledger.height
    assert (replay.log_size, replay.log_root) == (
        device.ledger.frontier.size,
        device.ledger.frontier.root(),
    )
    (event,) = logged
    assert isinstance(event.event, Proposed)
    leaf = light.stores["dev-0"].leaf(event.position)
    assert leaf is not None
    assert leaf[:1] == b"\x02"
    assert replay.rollout.release(event.event.release) is not None


def test_nothing_new_is_no_failure() -> None:
    light = LightSwarm(genesis=make_rollout_genesis())
    replay = Replay(light.genesis)
    submit(light, "notes", b"one")
    replay.absorb(blocks_after(light, replay).blocks)
    assert blocks_after(light, replay, wait_ms=500) == VerifiedBlocks(())


def test_a_member_that_does_not_answer_is_passed_over() -> None:
    light = LightSwarm(genesis=make_rollout_genesis())
    submit(light, "notes", b"one")
    light.deaf_to_client = {"dev-0", "dev-1", "dev-3"}
    assert blocks_after(light, Replay(light.genesis), wait_ms=20_000).blocks


def test_an_application_that_is_not_here_is_named() -> None:
    with pytest.raises(ConfigError, match="inventory@1"):
        Replay(make_genesis(apps=("inventory@1", "rollout@1")))


def test_own_applications_come_from_the_operators_file(tmp_path: Path) -> None:
    """A replay needs every application of the log: the positions of all events depend on them."""
    swarm("init", tmp_path / "s", "--devices", 1, "--firmware", "1/1", "--app", "inventory")
    path = tmp_path / "s" / "operator" / "operator.yaml"

    async def replay() -> Replay:
        async with connect(path) as client:
            return new_replay(client)

    with pytest.raises(ConfigError, match=r"operator.yaml: .*inventory@1.*\(add `apps: "):
        asyncio.run(replay())
    with path.open("a") as file:
        file.write("apps: {inventory: 'tests.support.own_app:Inventory'}\n")
    assert asyncio.run(replay()).height == 0


def test_a_kept_replay_goes_on_where_it_was(served: tuple[Genesis, Blocks]) -> None:
    genesis, answer = served
    start = header_hash(genesis_header(genesis.id))
    blocks = Belief(genesis, verify).blocks(answer, height=1, parent=start)
    whole = Replay(genesis)
    whole.absorb(blocks)
    half = Replay(genesis)
    half.absorb(blocks[:2])
    again = Replay(genesis)
    again.load(half.save())
    assert (again.height, again.tip, again.log_root) == (half.height, half.tip, half.log_root)
    again.absorb(blocks[2:])
    assert again.save() == whole.save()


@pytest.mark.parametrize("spoil", [b"", b"\x00", b"junk"])
def test_what_was_not_kept_by_this_program_is_refused(spoil: bytes) -> None:
    genesis = make_rollout_genesis()
    with pytest.raises(DecodeError):
        Replay(genesis).load(spoil)
    other = Replay(make_rollout_genesis(5)).save()
    with pytest.raises(DecodeError, match="other-program"):
        Replay(genesis).load(other)


def test_a_damaged_file_is_read_again_from_the_log(tmp_path: Path) -> None:
    swarm("init", tmp_path / "s", "--devices", 1, "--firmware", "1/1")
    path = tmp_path / "s" / "operator" / "operator.yaml"
    kept = tmp_path / "s" / "operator" / "operator.replay"

    async def play(height: int) -> int:
        async with connect(path) as client:
            replay = kept_replay(client)
            found = replay.height
            replay._ledger.height = height
            keep_replay(client, replay)
            return found

    assert asyncio.run(play(7)) == 0
    assert kept.stat().st_mode & 0o777 == 0o600
    assert asyncio.run(play(7)) == 7
    kept.write_bytes(kept.read_bytes()[:-1])
    assert asyncio.run(play(7)) == 0
    kept.unlink()
    kept.mkdir()
    assert asyncio.run(play(7)) == 0, "a disk that takes nothing costs only time"


def test_blocks_that_do_not_follow_the_tip_are_a_bug(served: tuple[Genesis, Blocks]) -> None:
    genesis, answer = served
    start = header_hash(genesis_header(genesis.id))
    blocks = Belief(genesis, verify).blocks(answer, height=1, parent=start)
    replay = Replay(genesis)
    with pytest.raises(InvariantError):
        replay.absorb(blocks[1:])
    assert replay.absorb(blocks) == ()
    assert replay.height == len(blocks)


# ------------------------------------------------------------------------------ lies


def believe(genesis: Genesis, answer: Blocks, *, height: int = 1, parent: bytes = b"") -> object:
    start = parent or header_hash(genesis_header(genesis.id))
    return Belief(genesis, verify).blocks(answer, height=height, parent=start)


def test_true_blocks_are_believed(served: tuple[Genesis, Blocks]) -> None:
    genesis, answer = served
    assert believe(genesis, answer)


def test_blocks_of_another_place_are_not(served: tuple[Genesis, Blocks]) -> None:
    genesis, answer = served
    with pytest.raises(ProofError, match="follow each other"):
        believe(genesis, answer, height=2)
    with pytest.raises(ProofError, match="follow each other"):
        believe(genesis, answer, parent=b"\x01" * 32)
    with pytest.raises(ProofError, match="follow each other"):
        believe(genesis, Blocks(answer.blocks[1:], answer.finality))
    with pytest.raises(ProofError, match="follow each other"):
        believe(genesis, Blocks((answer.blocks[0], *answer.blocks[2:]), answer.finality))


def test_blocks_without_a_quorums_word_are_not(served: tuple[Genesis, Blocks]) -> None:
    genesis, answer = served
    with pytest.raises(ProofError, match="nobody says"):
        believe(genesis, Blocks(answer.blocks, None))
    with pytest.raises(ProofError, match="nobody says"):
        believe(genesis, Blocks(answer.blocks[:-1], answer.finality))
    assert isinstance(answer.finality, Certificate)
    few = msgspec.structs.replace(answer.finality, signatures=answer.finality.signatures[:2])
    with pytest.raises(DecodeError, match="too-few-signatures"):
        believe(genesis, Blocks(answer.blocks, few))
    (voter, signature), *others = answer.finality.signatures
    forged = msgspec.structs.replace(
        answer.finality, signatures=((voter, bytes([signature[0] ^ 1]) + signature[1:]), *others)
    )
    with pytest.raises(DecodeError, match="bad-signature"):
        believe(genesis, Blocks(answer.blocks, forged))


def test_other_bodies_under_a_true_header_are_not(served: tuple[Genesis, Blocks]) -> None:
    genesis, answer = served
    full = next(index for index, block in enumerate(answer.blocks) if block.submissions)
    emptied = Block(answer.blocks[full].header, ())
    blocks = (*answer.blocks[:full], emptied, *answer.blocks[full + 1 :])
    with pytest.raises(ProofError, match="submissions are others"):
        believe(genesis, Blocks(blocks, answer.finality))
