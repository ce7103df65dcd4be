"""The measuring stick: the messages, signatures and disk writes of one commit, and nothing else.

One process per device, each with an aiomqtt client and an SQLite file. A block costs what a commit cannot do
without: a signed proposal with signed submissions, an N vote of each device to each, an F vote of each device to
each, every signature of others verified, and each own vote on the disk (`synchronous=FULL`) before it leaves.
There is no protocol: one fixed leader, one block at a time, nothing is checked against anything, and a lost message
ends the measurement. What a real commit costs beyond this loop is the price of being safe.

Nothing of the consensus code and nothing of our MQTT adapter is used, so that a mistake there cannot bend the stick.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hashlib
import json
import os
import socket
import sqlite3
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final, cast

import aiomqtt

from swarm.crypto.keys import KeyPair
from swarm.crypto.signing import SIGNATURE_BYTES, sign, verify
from swarm.lab.processes.scratch import scratch_folder
from swarm.primitives.errors import ConfigError, TransportError
from swarm.transport.url import parse_broker, tls_context

BUNDLE: Final = 64
"""Submissions of one block when throughput is measured."""

SUBMISSION_BYTES: Final = 200
WARM_UP_BLOCKS: Final = 5
DEVICES_MAX: Final = 64
_START_TIMEOUT_S: Final = 30.0
_GRACE_S: Final = 10.0
_QUICKACK: Final[int | None] = getattr(socket, "TCP_QUICKACK", None)  # Linux only
_HEAD: Final = 1 + 8 + 32  # kind, height, digest


@dataclass(frozen=True, slots=True, kw_only=True)
class BareLoopResult:
    """Submit-to-quorum times with one submission a block, and how many blocks and submissions a second.

    `blocks_per_s` is of the first phase (one submission a block), `submissions_per_s` of the second (64 a block);
    both have one block in flight.
    """

    p50_ms: float
    p99_ms: float
    blocks_per_s: float
    submissions_per_s: float


def run_bare_loop(
    broker_url: str, *, devices: int = 4, commits: int = 200, seconds: float = 5.0
) -> BareLoopResult:
    """Measure over `broker_url`: two phases of at most `commits` blocks and `seconds` each. Blocks.

    Raises `ConfigError` for a bad URL or number, `TransportError` if the workers cannot reach the broker or no
    block went round. All workers are gone when it returns or raises.
    """
    return asyncio.run(measure_bare_loop(broker_url, devices=devices, commits=commits, seconds=seconds))


async def measure_bare_loop(
    broker_url: str, *, devices: int = 4, commits: int = 200, seconds: float = 5.0
) -> BareLoopResult:
    """Do as `run_bare_loop`, in a loop that runs already."""
    parse_broker(broker_url, where="--broker")
    if not 1 <= devices <= DEVICES_MAX:
        raise ConfigError(f"{devices} devices", where="devices", hint=f"1 to {DEVICES_MAX}")
    if commits < 1 or not 0 < seconds <= 3600:
        raise ConfigError(f"{commits} commits in {seconds} seconds is nothing to measure", where="commits")
    return await _measure(broker_url, devices, commits, seconds)


# --------------------------------------------------------------------------------------------------- supervisor


@dataclass(frozen=True, slots=True)
class _Phase:
    """What the leader reports: times of the counted blocks in milliseconds, and the time they took together."""

    times_ms: tuple[float, ...]
    wall_s: float


async def _measure(broker_url: str, devices: int, commits: int, seconds: float) -> BareLoopResult:
    workers: list[asyncio.subprocess.Process] = []
    with scratch_folder("swarm-bare-") as folder:
        run = folder.name.removeprefix("swarm-bare-")
        try:
            for index in range(devices):
                arguments = ["--index", index, "--devices", devices, "--broker", broker_url]
                workers.append(
                    await asyncio.create_subprocess_exec(
                        sys.executable,
                        *("-m", "swarm.lab.bench.bare_loop", "--worker", "--run", run, "--folder", folder),
                        *(str(argument) for argument in arguments),
                        stdin=asyncio.subprocess.PIPE,
                        stdout=asyncio.subprocess.PIPE,
                        env=_environment(),
                        # Ctrl-C in a terminal goes to us alone; the end of their input ends the workers.
                        start_new_session=True,
                    )
                )
            for worker in workers:
                await _read_line(worker, _START_TIMEOUT_S)
            low = await _ask(workers[0], commits=commits, seconds=seconds, bundle=1)
            high = await _ask(workers[0], commits=commits, seconds=seconds, bundle=BUNDLE)
        finally:
            await _end(workers)
    return BareLoopResult(
        p50_ms=_percentile(low.times_ms, 0.50),
        p99_ms=_percentile(low.times_ms, 0.99),
        blocks_per_s=len(low.times_ms) / low.wall_s,
        submissions_per_s=len(high.times_ms) * BUNDLE / high.wall_s,
    )


async def _ask(leader: asyncio.subprocess.Process, *, commits: int, seconds: float, bundle: int) -> _Phase:
    if leader.stdin is None:
        raise TransportError("the leader of the bare loop has no input")
    order = {"commits": commits, "seconds": seconds, "bundle": bundle}
    leader.stdin.write(json.dumps(order).encode() + b"\n")
    answer = await _read_line(leader, seconds + _GRACE_S)
    times = tuple(cast("list[float]", answer["times_ms"]))
    if not times:
        raise TransportError(f"no block of the bare loop went round within {seconds} s")
    return _Phase(times, cast("float", answer["wall_s"]))


async def _read_line(worker: asyncio.subprocess.Process, timeout_s: float) -> dict[str, object]:
    if worker.stdout is None:
        raise TransportError("a worker of the bare loop has no output")
    try:
        async with asyncio.timeout(timeout_s):
            line = await worker.stdout.readline()
    except TimeoutError:
        raise TransportError(f"a worker of the bare loop said nothing for {timeout_s:.0f} s") from None
    answer: dict[str, object] = json.loads(line) if line else {"error": "it ended without a word"}
    if "error" in answer:
        raise TransportError(f"a worker of the bare loop failed: {answer['error']}")
    return answer


async def _end(workers: list[asyncio.subprocess.Process]) -> None:
    for worker in workers:
        if worker.stdin is not None:
            worker.stdin.close()
    for worker in workers:
        try:
            async with asyncio.timeout(3.0):
                await worker.wait()
        except TimeoutError:
            worker.kill()
            await worker.wait()


def _percentile(times: tuple[float, ...], share: float) -> float:
    """Return the nearest-rank percentile."""
    ordered = sorted(times)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def _environment() -> dict[str, str]:
    root = Path(__file__).resolve().parents[3]
    environment = dict(os.environ)
    if root.name not in ("site-packages", "dist-packages"):
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, (str(root), environment.get("PYTHONPATH"))))
    return environment


# --------------------------------------------------------------------------------------------------- worker


class _Worker:
    """One device. Message = kind `P`, `N` or `F` | height u64 | digest (32) | signature (64) | submissions."""

    def __init__(self, *, run: str, index: int, devices: int, folder: Path) -> None:
        self._run = run
        self._index = index
        self._devices = devices
        self._quorum = devices - (devices - 1) // 3
        self._keys = [_keypair(run, device) for device in range(devices)]
        self._votes: dict[tuple[bytes, int], set[int]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._client: aiomqtt.Client | None = None
        self.quorum_at: dict[int, asyncio.Future[float]] = {}
        self._disk = sqlite3.connect(folder / f"votes-{index}.sqlite", isolation_level=None)
        self._disk.execute("PRAGMA journal_mode=WAL")
        self._disk.execute("PRAGMA synchronous=FULL")
        self._disk.execute("CREATE TABLE vote (bytes BLOB NOT NULL)")

    def topic(self, device: int) -> str:
        return f"swarm-bare/{self._run}/{device}"

    async def join(self, client: aiomqtt.Client) -> None:
        self._client = client
        client.pending_calls_threshold = 1_000_000
        others = [(self.topic(device), 1) for device in range(self._devices) if device != self._index]
        if others:
            await client.subscribe(others)

    def close(self) -> None:
        self._client = None
        for task in self._tasks:
            task.cancel()
        self._disk.close()

    def propose(self, height: int, submissions: bytes) -> None:
        """Sign and publish a block, then vote for it like everybody."""
        digest = hashlib.sha256(submissions).digest()
        self._publish(self._signed(b"P", height, digest) + submissions)
        self._vote(b"N", height, digest)

    def on_message(self, device: int, message: bytes) -> None:
        if self._client is None:
            return
        head, signature = message[:_HEAD], message[_HEAD : _HEAD + SIGNATURE_BYTES]
        if not verify(self._keys[device].public, head, signature):
            raise TransportError(f"bad signature of device {device}")
        kind, height, digest = head[:1], int.from_bytes(head[1:9], "big"), head[9:]
        if kind == b"P":
            self._check_submissions(digest, message[_HEAD + SIGNATURE_BYTES :])
            self._vote(b"N", height, digest)
        else:
            self._count(kind, height, digest, device)

    def _check_submissions(self, digest: bytes, submissions: bytes) -> None:
        if hashlib.sha256(submissions).digest() != digest:
            raise TransportError("a block is not what its proposal says")
        step = SUBMISSION_BYTES + SIGNATURE_BYTES
        for start in range(0, len(submissions), step):
            one = submissions[start : start + step]
            if not verify(self._keys[0].public, one[:SUBMISSION_BYTES], one[SUBMISSION_BYTES:]):
                raise TransportError("bad signature of a submission")

    def _vote(self, kind: bytes, height: int, digest: bytes) -> None:
        vote = self._signed(kind, height, digest)
        self._disk.execute("INSERT INTO vote VALUES (?)", (vote,))
        self._publish(vote)
        self._count(kind, height, digest, self._index)

    def _count(self, kind: bytes, height: int, digest: bytes, device: int) -> None:
        voters = self._votes.setdefault((kind, height), set())
        before = len(voters)
        voters.add(device)
        if before + 1 != self._quorum or len(voters) == before:
            return
        if kind == b"N":
            self._vote(b"F", height, digest)
        elif (waiting := self.quorum_at.get(height)) is not None:
            if not waiting.done():
                waiting.set_result(asyncio.get_running_loop().time())
        self._votes.pop((kind, height - 16), None)

    def _signed(self, kind: bytes, height: int, digest: bytes) -> bytes:
        head = kind + height.to_bytes(8, "big") + digest
        return head + sign(self._keys[self._index], head)

    def _publish(self, message: bytes) -> None:
        if self._client is not None:
            task = asyncio.create_task(self._client.publish(self.topic(self._index), message, qos=1))
            self._tasks.add(task)
            task.add_done_callback(self._forget)

    def _forget(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        # The PUBACK has come: acknowledge it to TCP now, or a broker with Nagle's algorithm holds the next vote back.
        sock = None if self._client is None else self._client._client.socket()
        if isinstance(sock, socket.socket) and _QUICKACK is not None:
            sock.setsockopt(socket.IPPROTO_TCP, _QUICKACK, 1)
        if not task.cancelled() and isinstance(task.exception(), aiomqtt.MqttError):
            # The last votes of a run may meet a connection that is already closed; a lost one before that
            # ends the measurement by itself.
            return

    async def lead(
        self, *, first: int, commits: int, seconds: float, bundle: int
    ) -> tuple[list[float], float]:
        """Run up to `commits` counted blocks after a warm-up; return their times in ms and their wall time in s."""
        clock = asyncio.get_running_loop().time
        times: list[float] = []
        began, ends = clock(), clock() + seconds
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(ends):
                for number in range(-WARM_UP_BLOCKS, commits):
                    if number == 0:
                        began = clock()
                    height = first + number + WARM_UP_BLOCKS
                    waiting = self.quorum_at[height] = asyncio.get_running_loop().create_future()
                    submitted = clock()
                    self.propose(height, self._submissions(height, bundle))
                    committed = await waiting
                    del self.quorum_at[height]
                    if number >= 0:
                        times.append((committed - submitted) * 1000)
        return times, clock() - began

    def _submissions(self, height: int, bundle: int) -> bytes:
        out = bytearray()
        for number in range(bundle):
            body = (height * BUNDLE + number).to_bytes(8, "big").ljust(SUBMISSION_BYTES, b".")
            out += body + sign(self._keys[0], body)
        return bytes(out)


def _keypair(run: str, device: int) -> KeyPair:
    # A key for a measurement, known to everybody who knows the name of the run.
    return KeyPair(hashlib.sha256(f"bare loop {run} {device}".encode()).digest())


async def _work(*, broker_url: str, run: str, index: int, devices: int, folder: Path) -> None:
    broker = parse_broker(broker_url)
    worker = _Worker(run=run, index=index, devices=devices, folder=folder)
    device_of = {worker.topic(device): device for device in range(devices)}
    failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    class _Straight(asyncio.Queue[aiomqtt.Message]):
        """Hands messages to the worker at once; aiomqtt's own loop makes a task per message."""

        def put_nowait(self, item: aiomqtt.Message) -> None:
            try:
                worker.on_message(device_of[item.topic.value], item.payload)
            except (TransportError, sqlite3.Error) as error:
                if not failed.done():
                    failed.set_exception(error)

    client = aiomqtt.Client(
        broker.host,
        broker.port,
        identifier=f"bare-{run}-{index}",
        tls_context=tls_context(broker),
        queue_type=_Straight,
        max_inflight_messages=1000,
        socket_options=[(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)],
    )
    try:
        async with client:
            await worker.join(client)
            _say({"ready": index})
            obeying = asyncio.ensure_future(_obey(worker))
            await asyncio.wait({obeying, failed}, return_when=asyncio.FIRST_COMPLETED)
            obeying.cancel()
            worker.close()
            if failed.done():
                failed.result()
    finally:
        worker.close()


async def _obey(worker: _Worker) -> None:
    """Run the phases that come as lines on standard input, until it ends."""
    orders = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(orders), sys.stdin
    )
    first = 1
    while line := await orders.readline():
        order: dict[str, float] = json.loads(line)
        commits = int(order["commits"])
        times, wall_s = await worker.lead(
            first=first, commits=commits, seconds=order["seconds"], bundle=int(order["bundle"])
        )
        first += commits + WARM_UP_BLOCKS
        _say({"times_ms": times, "wall_s": wall_s})


def _say(answer: dict[str, object]) -> None:
    print(json.dumps(answer), flush=True)


def main() -> None:
    """Run one worker; the supervisor is `run_bare_loop`."""
    parser = argparse.ArgumentParser(prog="python -m swarm.lab.bench.bare_loop", allow_abbrev=False)
    parser.add_argument("--worker", action="store_true", required=True)
    parser.add_argument("--run", required=True)
    parser.add_argument("--index", type=int, required=True)
    parser.add_argument("--devices", type=int, required=True)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--broker", required=True)
    given = parser.parse_args()
    try:
        asyncio.run(
            _work(
                broker_url=given.broker,
                run=given.run,
                index=given.index,
                devices=given.devices,
                folder=given.folder,
            )
        )
    except (aiomqtt.MqttError, TransportError, ConfigError, sqlite3.Error) as error:
        _say({"error": str(error)})


if __name__ == "__main__":
    main()
