"""Images for scenarios: stock imgtool makes the same bytes, the strict verifier takes them."""

from __future__ import annotations

import base64
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from swarm.crypto.digest import sha256
from swarm.crypto.keys import KeyPair
from swarm.install.identity import class_id, vendor_id
from swarm.install.image import ImageRules, Version, verify_image
from swarm.lab.firmware_images import (
    HEADER_BYTES,
    ImageSpec,
    behaviour_of,
    describe_file,
    image_digest,
    make_image,
    plan_of,
)
from swarm.primitives.errors import ConfigError
from tests.support.install import chunk_root

VENDOR = vendor_id("acme.example")
CLASS = class_id(VENDOR, "sensor-a")
KEY = KeyPair(b"\x07" * 32)
RULES = ImageRules(keys=(KEY.public,), vendor=VENDOR, device_class=CLASS)
SPEC = ImageSpec(
    version=Version(1, 2, 3, 4),
    vendor=VENDOR,
    device_class=CLASS,
    size=6000,
    counter=7,
    behaves="bomb: 60000",
)


def payload_of(image: bytes) -> bytes:
    """Return the content between header and TLVs; its length stands in the header."""
    return image[HEADER_BYTES : HEADER_BYTES + int.from_bytes(image[12:16], "little")]


def test_imgtool_makes_the_same_bytes(tmp_path: Path) -> None:
    image = make_image(SPEC, KEY)
    der = bytes.fromhex("302e020100300506032b657004220420") + KEY.seed
    pem = b"-----BEGIN PRIVATE KEY-----\n" + base64.b64encode(der) + b"\n-----END PRIVATE KEY-----\n"
    (tmp_path / "key.pem").write_bytes(pem)
    (tmp_path / "app.bin").write_bytes(payload_of(image))
    options = ["-k", "key.pem", "--align", "4", "-H", str(HEADER_BYTES), "--pad-header", "-S", "0x10000"]
    facts = ["-v", "1.2.3+4", "-s", "7", "--vid", "acme.example", "--cid", "sensor-a"]
    behaves = ["--custom-tlv", "0x00a0", SPEC.behaves]
    subprocess.run(
        [Path(sys.executable).with_name("imgtool"), "sign", *options, *facts, *behaves, "app.bin", "out.bin"],
        cwd=tmp_path,
        timeout=60,
        check=True,
    )
    assert (tmp_path / "out.bin").read_bytes() == image


@pytest.mark.parametrize("size", [260, 4096, 65_536])
def test_the_strict_verifier_takes_them(size: int) -> None:
    image = make_image(replace(SPEC, size=size), KEY)
    info = verify_image(image, RULES, bytes_max=size)
    assert len(image) == size
    assert (info.size, info.counter, info.version) == (size, 7, SPEC.version)
    assert info.digest == image_digest(image)
    assert behaviour_of(info) == "bomb: 60000"


def test_the_same_facts_give_the_same_bytes_and_others_give_others() -> None:
    image = make_image(SPEC, KEY)
    assert make_image(replace(SPEC), KEY) == image
    for other in (
        replace(SPEC, seed=1),
        replace(SPEC, version=Version(1, 2, 3, 5)),
        replace(SPEC, counter=8),
        replace(SPEC, behaves="crash"),
        replace(SPEC, size=6001),
    ):
        assert image_digest(make_image(other, KEY)) != image_digest(image)


def test_common_bytes_lie_at_the_same_place_in_every_version() -> None:
    first = make_image(replace(SPEC, common=2000), KEY)
    second = make_image(replace(SPEC, common=1000, version=Version(2, 0, 0, 0), behaves="crash"), KEY)
    start, end = 6000 - 1000, HEADER_BYTES + len(payload_of(first))
    assert first[start:end] == second[start:end]
    assert first[start - 1500 : start - 500] != second[start - 1500 : start - 500]
    everything = payload_of(make_image(replace(SPEC, common=1 << 20), KEY))
    assert everything[-2000:] == payload_of(first)[-2000:]


def test_too_small_is_said() -> None:
    with pytest.raises(ConfigError, match="more than"):
        make_image(replace(SPEC, size=200), KEY)


def test_what_a_manifest_says_of_it() -> None:
    image = make_image(SPEC, KEY)
    facts = describe_file(image, 4096)
    assert (facts.file_bytes, facts.chunk_count, facts.file_digest) == (6000, 2, sha256(image))
    assert facts.chunk_root == chunk_root(image, 4096)
    plan = plan_of(image, SPEC, release=b"\x01" * 32, number=2, chunk_bytes=4096)
    assert (plan.number, plan.version, plan.counter) == (2, "1.2.3+4", 7)
    assert (plan.image_digest, plan.chunk_root) == (image_digest(image), facts.chunk_root)
