"""The directed scenarios of reference model.md, section 5: each broke an earlier text, each is a regression test.

Those about the order inside of a transaction (tally, late mark, early mark) need the real store.
"""

from __future__ import annotations

import random

from swarm.consensus.propose import SKIPS_MAX
from swarm.wire.messages import SubmissionItem
from tests.support.chaos import complaints_of
from tests.support.cluster import Cluster, Message, Network, digest_of, kind_of
from tests.support.fake_signatures import make_submission
from tests.support.stage import DELTA_MS, GENESIS, T_VOTE_MS, F, K, N, P, Stage


def test_directed_vclost() -> None:
    """F signed, VC not stored, two restarts, third voter had skipped: N=2 K=1 F=2 for ever."""
    cluster = Cluster(3, "crash")
    submission = cluster.submit(1, "x")
    cluster.deliver(kind="S", target=0)
    cluster.deliver(kind="P", target=0)
    cluster.deliver(source=0, target=1, kind="N")
    cluster.deliver(source=1, target=0, kind="N")
    cluster.drop()
    cluster.submit(2, "makes dev-2 work")
    cluster.drop()
    cluster.tick(T_VOTE_MS)
    kinds = [sorted({chr(s.kind) for s in d.disk.statements if s.number == 1}) for d in cluster.devices]
    assert kinds == [["F", "N"], ["F", "N", "P"], ["K"]]
    cluster.drop()
    for device in (0, 1):
        cluster.crash(device)
        cluster.restart(device)
    cluster.settle(10_000)
    assert cluster.has_final(submission)
    assert complaints_of(cluster) == []


def test_directed_body() -> None:
    """FC everywhere, bytes nowhere after restarts: who signed N serves the bytes from its disk."""
    cluster = Cluster(4)
    submission = cluster.submit(0, "x")
    cluster.stabilize(where=lambda m: m.target != 3 or kind_of(m.payload) == "FC")
    for device in range(4):
        cluster.crash(device)
        cluster.restart(device)
    cluster.settle(20_000)
    if not cluster.has_final(submission):
        for device in range(4):
            cluster.beat(device)
        cluster.settle(20_000)
    assert cluster.has_final(submission)


def test_directed_empty() -> None:
    """One submission, then 761 empty blocks for ever: the leader waits Δ, and not after the FC."""
    cluster = Cluster(4, network=Network(random.Random(1), (10, 10)))
    submission = cluster.submit(0, "x")
    cluster.run_until(10_000)
    assert cluster.has_final(submission)
    assert [len(d.disk.log) for d in cluster.devices] == [1] * 4


def test_directed_empty_on_a_network_slower_than_delta() -> None:
    """The FC comes a delay after the VC; with a fixed Δ below that every empty block is followed by another for ever."""
    cluster = Cluster(4, network=Network(random.Random(1), (60, 60)))
    for i in range(10):
        submission = cluster.submit(i % 4, f"{i}")
        cluster.run_until(cluster.now_ms + 10_000)
        assert cluster.has_final(submission)
        assert cluster.is_quiet()
    assert len(cluster.devices[0].disk.log) <= 10 + 6


def test_directed_late_work() -> None:
    """A device enters a view idle, work appears, no timer was ever armed."""
    cluster = Cluster(4)
    cluster.submit(0, "first")
    cluster.settle(5_000)
    assert cluster.is_quiet()
    leader = cluster.devices[0].up.state.leader(cluster.devices[0].up.state.cur)
    cluster.crash(leader)
    late = cluster.submit(3, "late")
    cluster.settle(5_000)
    assert cluster.has_final(late)


def test_directed_fc_as_vc() -> None:
    """FC held, VC pruned or never formed: propose, notarize and finalize go on from the FC."""
    cluster = Cluster(4)
    cluster.submit(0, "x")
    cluster.stabilize(where=lambda m: kind_of(m.payload) != "VC")
    for disk in [device.disk for device in cluster.devices]:
        disk.certificates = [c for c in disk.certificates if c.kind == F]
    for device in range(4):
        cluster.crash(device)
        cluster.restart(device)
    again = cluster.submit(1, "y")
    cluster.settle(5_000)
    assert cluster.has_final(again)


def test_directed_orphan() -> None:
    """Origin and leader dies after two of three heard the submission; the third is idle and never skips."""
    cluster = Cluster(4)
    origin = cluster.devices[0].up.state.leader(cluster.devices[0].up.state.cur)
    submission = cluster.submit(origin, "x")
    heard = [i for i in range(4) if i != origin][:2]
    for target in heard:
        cluster.deliver(source=origin, target=target, kind="S")
    cluster.crash(origin)
    cluster.drop()
    cluster.settle(20_000)
    assert cluster.has_final(submission)


def test_directed_starve() -> None:
    """An observer's submission lost once while others commit for ever: its own back-off repeats it."""
    cluster = Cluster(4, observers=1)
    starving = cluster.submit(4, "starving")
    cluster.drop()
    for i in range(40):
        cluster.submit(i % 4, f"{i}")
        cluster.settle(DELTA_MS)
    assert cluster.has_final(starving)
    assert all(device.up.state.standstill_round == 0 for device in cluster.devices)


def test_directed_cap() -> None:
    """More SCs after a long outage than fit into a proposal: the newest fit, the rest is fetched."""
    views = SKIPS_MAX * 2
    stage = Stage()
    stage.work()
    stage.skip_to(views + 1)
    assert stage.state.cur == views + 1
    cluster = Cluster(4)
    for device in (0, 1, 2):
        for view in range(1, views + 1):
            cluster.post(device, device, stage.certificate(K, view))
    cluster.stabilize()
    late = cluster.submit(3, "x")
    cluster.settle(300_000)
    assert cluster.has_final(late)
    assert cluster.devices[3].disk.log[0].header.view > views


def test_directed_egress() -> None:
    """The token bucket empties before the tail of the list each round: the next round goes on where this one stopped."""
    stage = Stage(me=4)
    raws = [stage.work(f"{i}").raw for i in range(60)]
    stage.take_left()
    said: set[bytes] = set()
    for _ in range(12):
        stage.state.tokens_milli = 110_000
        stage.state.tokens_at_ms = 10**12
        stage.pass_ms(20 * DELTA_MS * 10)
        said |= {left.payload.raw for left in stage.take_left() if isinstance(left.payload, SubmissionItem)}
    assert said == set(raws)


def test_directed_idle_body() -> None:
    """FC known, body missing, no work: it is fetched and delivered all the same."""
    cluster = Cluster(4)
    submission = cluster.submit(0, "x")
    cluster.stabilize(where=lambda m: m.target != 3 or kind_of(m.payload) == "FC")
    cluster.settle(DELTA_MS)
    cluster.settle(2_000)
    if not cluster.devices[3].up.state.final_view:
        cluster.post(0, 3, next(c for c in cluster.devices[0].disk.certificates if c.kind == F))
    state = cluster.devices[3].up.state
    assert not state.work
    cluster.settle(2_000)
    assert cluster.has_final(submission)


def test_directed_last_a() -> None:
    """Attestation lost, idle: the heartbeat carries the last A, and the last checkpoint forms."""
    cluster = Cluster(4)
    cluster.submit(0, "x")
    cluster.stabilize(where=lambda m: kind_of(m.payload) != "A")
    cluster.settle(5_000, where=lambda m: kind_of(m.payload) != "A")
    assert [len(d.disk.checkpoints) for d in cluster.devices] == [0] * 4
    for device in range(4):
        cluster.beat(device)
    cluster.stabilize()
    assert [len(d.disk.checkpoints) for d in cluster.devices] == [1] * 4


def test_directed_two_bodies() -> None:
    """Two contents under one (origin, seq) split the voters if the pool keeps one per slot."""
    cluster = Cluster(4)
    contents = [make_submission("ops", 1, text) for text in ("left", "right")]
    for device in range(4):
        cluster.post(device, device, SubmissionItem(raw=contents[device % 2].raw))
    cluster.settle(20_000)
    applied = [d.disk.applied_ids() for d in cluster.devices]
    assert applied == [applied[0]] * 4
    assert len(applied[0]) == 1, "one of the two counts, the other is a no-op"
    assert cluster.is_quiet()


def test_directed_eternal_pending() -> None:
    """A submission above the window counts as pending: empty blocks for ever."""
    cluster = Cluster(4, network=Network(random.Random(1), (10, 10)))
    for device in range(4):
        cluster.post(device, device, SubmissionItem(raw=make_submission("ops", 5_000, "x").raw))
    cluster.run_until(60_000)
    assert [d.up.state.cur for d in cluster.devices] == [1] * 4
    assert cluster.is_quiet()


def test_directed_equivocating_leader() -> None:
    """Two proposals, each to half of the voters: the view is skipped or decided, never both, and work goes on."""
    for split in range(1, 8):
        cluster = Cluster(4)
        cluster.byzantine = {1}
        stage = Stage()
        two = [stage.make(1, GENESIS, (stage.submission(f"{i}"),)) for i in range(2)]
        for target, made in ((i, two[split >> i & 1]) for i in (0, 2, 3)):
            for submission in made.submissions:
                cluster.post(1, target, SubmissionItem(raw=submission.raw))
            cluster.post(1, target, stage.proposal(made))
            cluster.post(1, target, stage.vote(N, 1, 1, made.hash))
        submission = cluster.submit(0, "honest")
        cluster.settle(20_000)
        assert cluster.has_final(submission, [0, 2, 3])
        assert complaints_of(cluster) == []


def test_directed_no_leader_twice_dead() -> None:
    """u voters dead for ever, also when they lead: every submission becomes final, absence is learnt."""
    cluster = Cluster(4)
    cluster.crash(2)
    for i in range(6):
        submission = cluster.submit((0, 1, 3)[i % 3], f"{i}")
        cluster.settle(5_000)
        assert cluster.has_final(submission)
    assert cluster.is_quiet()


def test_directed_partition_without_quorum_costs_progress_only() -> None:
    """Two and two: nothing becomes final on either side; after healing everything does."""
    cluster = Cluster(4)
    sides = {0: 0, 1: 0, 2: 1, 3: 1}

    def apart(message: Message) -> bool:
        return sides[message.source] == sides[message.target]

    both = [cluster.submit(0, "left"), cluster.submit(3, "right")]
    cluster.settle(10_000, where=apart)
    assert [d.disk.log for d in cluster.devices] == [[]] * 4
    cluster.settle(60_000)
    assert all(cluster.has_final(s) for s in both)
    assert complaints_of(cluster) == []
    assert digest_of(cluster.devices[0].disk.proposals.get(0, cluster.devices[0].disk.statements[0])) != b""
    assert P != K
