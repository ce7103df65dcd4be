"""mqtts://: both sides show a certificate, and a broker of another authority is not talked to."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from swarm.transport.topics import Scope
from swarm.transport.transport import Link, Outgoing
from swarm.transport.url import BrokerUrl, parse_broker
from tests.support.brokers import MosquittoBroker
from tests.support.devices import device

pytestmark = pytest.mark.broker


def openssl(folder: Path, *arguments: str) -> None:
    subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)


def make_authority(folder: Path, *names: str) -> Path:
    """Make an authority in `folder`, and for each name a certificate for 127.0.0.1."""
    folder.mkdir()
    new_key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
    openssl(
        folder,
        "req",
        "-x509",
        *new_key,
        "-days",
        "2",
        "-subj",
        "/CN=test",
        "-keyout",
        "ca.key",
        "-out",
        "ca.crt",
    )
    (folder / "extensions").write_text("subjectAltName=IP:127.0.0.1\n")
    for name in names:
        openssl(
            folder, "req", *new_key, "-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.csr"
        )
        signing = ("-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-extfile", "extensions")
        openssl(folder, "x509", "-req", "-in", f"{name}.csr", *signing, "-days", "2", "-out", f"{name}.crt")
    return folder


@pytest.fixture
def authority(tmp_path: Path) -> Path:
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    return make_authority(tmp_path / "ours", "broker", "a", "b")


@pytest.fixture
def mosquitto(tmp_path: Path, authority: Path) -> Iterator[MosquittoBroker]:
    broker = MosquittoBroker(tmp_path, tls=authority)
    try:
        broker.start()
        yield broker
    finally:
        broker.stop()


def as_member(broker: MosquittoBroker, authority: Path, name: str) -> BrokerUrl:
    return parse_broker(
        broker.url, ca=authority / "ca.crt", cert=authority / f"{name}.crt", key=authority / f"{name}.key"
    )


async def test_frames_large_and_small_travel_over_tls(mosquitto: MosquittoBroker, authority: Path) -> None:
    async with (
        device(as_member(mosquitto, authority, "a"), "a", ["b"]) as a,
        device(as_member(mosquitto, authority, "b"), "b", ["a"], presence=True) as b,
    ):
        await a.until_said(Link.CONNECTED)
        await b.until_said(Link.CONNECTED)
        for size in (1, 200_000, 5):
            a.transport.publish(Outgoing(Scope.ALL, None, bytes(size)))
        assert [len(frame.payload) for frame in await b.frames(3)] == [1, 200_000, 5]
        await a.transport.close()
        assert a.links == [Link.CONNECTED]


async def test_a_broker_of_another_authority_is_unreachable(
    mosquitto: MosquittoBroker, authority: Path, tmp_path: Path
) -> None:
    other = await asyncio.to_thread(make_authority, tmp_path / "theirs", "a")
    broker = parse_broker(
        mosquitto.url, ca=other / "ca.crt", cert=authority / "a.crt", key=authority / "a.key"
    )
    async with device(broker, "a", ["b"]) as a:
        await a.until_said(Link.UNREACHABLE)
        assert "certificate" in a.states[0].reason.lower()


async def test_without_a_certificate_the_broker_lets_nobody_in(
    mosquitto: MosquittoBroker, authority: Path
) -> None:
    async with device(parse_broker(mosquitto.url, ca=authority / "ca.crt"), "a", ["b"]) as a:
        await a.until_said(Link.UNREACHABLE)
        assert "hangs up" in a.states[0].reason
        assert Link.CONNECTED not in a.links
