"""The strict image verifier against images that stock imgtool made, and against everything that is not one."""

from __future__ import annotations

import random
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from uuid import NAMESPACE_DNS, uuid5

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swarm.crypto.digest import sha256
from swarm.crypto.keys import KeyPair
from swarm.crypto.signing import sign
from swarm.install.image import (
    ImageError,
    ImageInfo,
    ImageReason,
    ImageRules,
    Slot,
    Version,
    key_hash,
    verify_image,
)

VENDOR = uuid5(NAMESPACE_DNS, "acme.example")
CLASS = uuid5(VENDOR, "sensor-a")
KEY = KeyPair(b"\x07" * 32)
STRANGER = KeyPair(b"\x08" * 32)
BYTES_MAX = 0x10000
RULES = ImageRules(keys=(STRANGER.public, KEY.public), vendor=VENDOR.bytes, device_class=CLASS.bytes)
PAYLOAD = random.Random(4).randbytes(1000)


def pem(pair: KeyPair) -> bytes:
    """Write a private key as imgtool reads it: PKCS#8 (RFC 8410)."""
    import base64

    der = bytes.fromhex("302e020100300506032b657004220420") + pair.seed
    return b"-----BEGIN PRIVATE KEY-----\n" + base64.b64encode(der) + b"\n-----END PRIVATE KEY-----\n"


class Imgtool:
    """Stock `imgtool`, as a user calls it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "key.pem").write_bytes(pem(KEY))
        (folder / "stranger.pem").write_bytes(pem(STRANGER))
        (folder / "app.bin").write_bytes(PAYLOAD)

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [Path(sys.executable).with_name("imgtool"), *arguments],
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def sign(self, *options: str, key: str = "key.pem", base: tuple[str, ...] | None = None) -> bytes:
        usual = ("-v", "1.2.3+4", "-s", "7", "--vid", "acme.example", "--cid", "sensor-a")
        done = self.run(
            *("sign", "-k", key, "--align", "4", "-H", "32", "--pad-header", "-S", hex(BYTES_MAX)),
            *(usual if base is None else base),
            *options,
            *("app.bin", "out.bin"),
        )
        assert done.returncode == 0, done.stderr
        return (self.folder / "out.bin").read_bytes()


@pytest.fixture(scope="module")
def imgtool(tmp_path_factory: pytest.TempPathFactory) -> Imgtool:
    return Imgtool(tmp_path_factory.mktemp("imgtool"))


@pytest.fixture(scope="module")
def stock(imgtool: Imgtool) -> bytes:
    return imgtool.sign("--custom-tlv", "0x00a0", "0xdeadbeef")


def check(data: bytes, rules: ImageRules = RULES, *, slot: Slot | None = None) -> ImageInfo:
    return verify_image(data, rules, slot=slot, bytes_max=BYTES_MAX)


def refused(data: bytes, rules: ImageRules = RULES, *, slot: Slot | None = None) -> ImageReason:
    with pytest.raises(ImageError) as caught:
        check(data, rules, slot=slot)
    return caught.value.reason


# ----------------------------------------------------------------------------- our own maker, for wrong images


def tlv(kind: int, value: bytes) -> bytes:
    return struct.pack("<HH", kind, len(value)) + value


COUNTER = tlv(0x50, struct.pack("<I", 7))
IDS = tlv(0x74, VENDOR.bytes) + tlv(0x75, CLASS.bytes)


def area(magic: int, tlvs: bytes) -> bytes:
    return struct.pack("<HH", magic, len(tlvs) + 4) + tlvs


def make(
    *,
    protected: bytes = COUNTER + IDS,
    flags: int = 0,
    load: int = 0,
    pad: int = 0,
    payload: bytes = b"code",
    header: int = 32,
    protected_size: int | None = None,
    pair: KeyPair = KEY,
    tail: Callable[[bytes], bytes] | None = None,
) -> bytes:
    """Make a correctly signed image, wrong in just what is asked for."""
    inside = area(0x6908, protected)
    size = len(inside) if protected_size is None else protected_size
    head = struct.pack("<IIHHIIBBHII", 0x96F3B83D, load, header, size, len(payload), flags, 1, 2, 3, 4, pad)
    covered = head.ljust(header, b"\0") + payload + inside
    digest = sha256(covered)
    if tail is not None:
        return covered + area(0x6907, tail(digest))
    return covered + area(
        0x6907,
        tlv(0x10, digest) + tlv(0x01, key_hash(pair.public)) + tlv(0x24, sign(pair, digest)),
    )


# ----------------------------------------------------------------------------- images that verify


def test_stock_image_verifies(stock: bytes) -> None:
    info = check(stock)
    assert info.version == Version(1, 2, 3, 4)
    assert str(info.version) == "1.2.3+4"
    assert (info.counter, info.vendor, info.device_class) == (7, VENDOR.bytes, CLASS.bytes)
    assert info.key == KEY.public
    assert (info.header_size, info.payload_size, info.size) == (32, len(PAYLOAD), len(stock))
    assert info.custom == ((0xA0, bytes.fromhex("deadbeef")),)


def test_digest_is_the_one_imgtool_states(imgtool: Imgtool, stock: bytes) -> None:
    (imgtool.folder / "stock.bin").write_bytes(stock)
    done = imgtool.run("verify", "-k", "key.pem", "stock.bin")
    assert done.returncode == 0
    assert check(stock).digest.hex() in done.stdout


@pytest.mark.parametrize("header", [32, 64, 512])
def test_header_sizes_of_stock_images(imgtool: Imgtool, header: int) -> None:
    assert check(imgtool.sign("-H", str(header))).header_size == header


def test_rom_fixed_image_may_have_a_load_address(imgtool: Imgtool) -> None:
    assert check(imgtool.sign("--rom-fixed", "0x8000")).counter == 7


def test_own_maker_agrees_with_imgtool(imgtool: Imgtool) -> None:
    """Else the refusals below could be those of an image that was wrong for another reason."""
    (imgtool.folder / "own.bin").write_bytes(make())
    assert imgtool.run("verify", "-k", "key.pem", "own.bin").returncode == 0
    assert check(make()).counter == 7


# ----------------------------------------------------------------------------- imgtool's images that do not


def test_truncated_anywhere(stock: bytes) -> None:
    reasons = {refused(stock[:length]) for length in range(len(stock))}
    assert reasons == {ImageReason.TRUNCATED}


@pytest.mark.parametrize("extra", [b"\0", b"\xff", b"EXTRA", bytes(100)])
def test_bytes_after_the_image(imgtool: Imgtool, stock: bytes, extra: bytes) -> None:
    assert refused(stock + extra) is ImageReason.TRAILING_BYTES
    (imgtool.folder / "extra.bin").write_bytes(stock + extra)
    oracle = imgtool.run("verify", "-k", "key.pem", "extra.bin")
    assert oracle.returncode == 0, "imgtool takes it, which is why the rule is ours"


def test_signed_by_a_stranger(imgtool: Imgtool) -> None:
    image = imgtool.sign(key="stranger.pem")
    only = ImageRules(keys=(KEY.public,), vendor=VENDOR.bytes, device_class=CLASS.bytes)
    assert refused(image, only) is ImageReason.UNKNOWN_KEY
    assert check(image).key == STRANGER.public


def test_another_keys_signature_under_a_known_hash(stock: bytes) -> None:
    digest = check(stock).digest
    assert refused(stock[:-64] + sign(STRANGER, digest)) is ImageReason.BAD_SIGNATURE


def test_other_class_and_vendor(imgtool: Imgtool) -> None:
    base = ("-v", "1.0.0", "-s", "7", "--vid", "acme.example", "--cid", "sensor-b")
    assert refused(imgtool.sign(base=base)) is ImageReason.WRONG_CLASS
    base = ("-v", "1.0.0", "-s", "7", "--vid", "other.example", "--cid", "sensor-a")
    assert refused(imgtool.sign(base=base)) is ImageReason.WRONG_VENDOR


def test_counter_below_the_devices_own(stock: bytes) -> None:
    def rules(least: int) -> ImageRules:
        return ImageRules(
            keys=RULES.keys, vendor=RULES.vendor, device_class=RULES.device_class, counter_min=least
        )

    assert check(stock, rules(7)).counter == 7
    assert refused(stock, rules(8)) is ImageReason.OLD_COUNTER


def test_without_counter_or_ids(imgtool: Imgtool) -> None:
    assert refused(imgtool.sign(base=("-v", "1.0.0"))) is ImageReason.BAD_TLV_AREA
    assert refused(imgtool.sign(base=("-v", "1.0.0", "-s", "7"))) is ImageReason.MISSING_TLV


def test_pure_signature_and_encrypted_images(imgtool: Imgtool) -> None:
    assert refused(imgtool.sign("--pure")) in {ImageReason.UNKNOWN_TLV, ImageReason.MISSING_TLV}
    assert refused(imgtool.sign("--non-bootable")) is ImageReason.BAD_FLAGS


def test_oversized(stock: bytes) -> None:
    with pytest.raises(ImageError, match="oversized"):
        verify_image(stock, RULES, bytes_max=len(stock) - 1)
    assert verify_image(stock, RULES, bytes_max=len(stock)).size == len(stock)
    assert refused(stock[:12] + b"\xff\xff\xff\xff" + stock[16:]) is ImageReason.OVERSIZED


def test_every_single_byte_flip_over_header_and_tlvs(stock: bytes) -> None:
    places = [*range(32), *range(32 + len(PAYLOAD), len(stock))]
    generator = random.Random(11)
    for place in places:
        for mask in {0x01, 0x80, 0xFF, generator.randrange(1, 256), generator.randrange(1, 256)}:
            changed = bytearray(stock)
            changed[place] ^= mask
            refused(bytes(changed))


def test_payload_flip(stock: bytes) -> None:
    changed = bytearray(stock)
    changed[500] ^= 4
    assert refused(bytes(changed)) is ImageReason.WRONG_DIGEST


# ----------------------------------------------------------------------------- a whole slot


def test_slot_with_erased_rest_and_trailer(stock: bytes) -> None:
    trailer = b"\x77" * 64
    whole = stock.ljust(BYTES_MAX - 64, b"\xff") + trailer
    assert check(whole, slot=Slot(trailer_bytes=64)).size == len(stock)
    assert refused(whole, slot=Slot()) is ImageReason.TRAILING_BYTES
    assert refused(whole, slot=Slot(trailer_bytes=63)) is ImageReason.TRAILING_BYTES
    assert refused(whole) is ImageReason.TRAILING_BYTES
    dirty = bytearray(whole)
    dirty[len(stock)] = 0xFE
    assert refused(bytes(dirty), slot=Slot(trailer_bytes=64)) is ImageReason.TRAILING_BYTES
    assert check(stock.ljust(BYTES_MAX, b"\0"), slot=Slot(erased=0)).size == len(stock)


def test_slot_that_imgtool_padded(imgtool: Imgtool, stock: bytes) -> None:
    padded = imgtool.sign("--pad", "--confirm")
    assert len(padded) == BYTES_MAX
    info = check(padded, slot=Slot(trailer_bytes=64))
    assert padded[: info.size] == imgtool.sign()


def test_image_that_reaches_into_the_trailer(stock: bytes) -> None:
    assert refused(stock, slot=Slot(trailer_bytes=1)) is ImageReason.OVERSIZED
    assert refused(stock, slot=Slot(trailer_bytes=10**6)) is ImageReason.OVERSIZED


# ----------------------------------------------------------------------------- signed, and wrong all the same


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        (make(flags=0x4), ImageReason.BAD_FLAGS),
        (make(flags=0x8), ImageReason.BAD_FLAGS),
        (make(flags=0x10), ImageReason.BAD_FLAGS),
        (make(flags=0x20), ImageReason.BAD_FLAGS),
        (make(flags=0x200), ImageReason.BAD_FLAGS),
        (make(flags=0x400), ImageReason.BAD_FLAGS),
        (make(flags=0x80000000), ImageReason.BAD_FLAGS),
        (make(load=4), ImageReason.BAD_HEADER),
        (make(pad=1), ImageReason.BAD_HEADER),
        (make(payload=b""), ImageReason.BAD_HEADER),
        (make(header=28), ImageReason.BAD_HEADER),
        (make(protected_size=0), ImageReason.BAD_TLV_AREA),
        (make(protected_size=3), ImageReason.BAD_TLV_AREA),
        (make(protected_size=48), ImageReason.BAD_TLV_AREA),
        (make(protected=IDS), ImageReason.MISSING_TLV),
        (make(protected=COUNTER + tlv(0x74, VENDOR.bytes)), ImageReason.MISSING_TLV),
        (make(protected=COUNTER + tlv(0x75, CLASS.bytes)), ImageReason.MISSING_TLV),
        (make(protected=COUNTER + COUNTER + IDS), ImageReason.DUPLICATE_TLV),
        (make(protected=COUNTER + IDS + tlv(0xA0, b"x") + tlv(0xA0, b"y")), ImageReason.DUPLICATE_TLV),
        (make(protected=tlv(0x50, b"\7\0\0") + IDS), ImageReason.BAD_TLV),
        (make(protected=tlv(0x50, b"\7\0\0\0\0") + IDS), ImageReason.BAD_TLV),
        (make(protected=COUNTER + IDS + b"\xa0"), ImageReason.BAD_TLV),
        (make(protected=COUNTER + IDS + struct.pack("<HH", 0xA0, 1)), ImageReason.BAD_TLV),
        (make(protected=COUNTER + IDS + tlv(0x40, bytes(12))), ImageReason.UNKNOWN_TLV),
        (make(protected=COUNTER + IDS + tlv(0x10, bytes(32))), ImageReason.UNKNOWN_TLV),
        (make(tail=lambda _: b""), ImageReason.MISSING_TLV),
        (make(tail=lambda d: tlv(0x10, d)), ImageReason.MISSING_TLV),
        (
            make(tail=lambda d: tlv(0x10, d) + tlv(0x24, sign(KEY, d)) + tlv(0x01, key_hash(KEY.public))),
            ImageReason.BAD_TLV,
        ),
        (
            make(tail=lambda d: tlv(0x10, d) + tlv(0x01, key_hash(KEY.public)) + tlv(0x25, sign(KEY, d))),
            ImageReason.UNKNOWN_TLV,
        ),
        (
            make(
                tail=lambda d: tlv(0x10, d) + tlv(0x01, key_hash(STRANGER.public)) + tlv(0x24, sign(KEY, d))
            ),
            ImageReason.BAD_SIGNATURE,
        ),
        (
            make(
                tail=lambda d: tlv(0x10, d) + 2 * (tlv(0x01, key_hash(KEY.public)) + tlv(0x24, sign(KEY, d)))
            ),
            ImageReason.DUPLICATE_TLV,
        ),
        (
            make(
                tail=lambda d: tlv(0x10, d[:31]) + tlv(0x01, key_hash(KEY.public)) + tlv(0x24, sign(KEY, d))
            ),
            ImageReason.WRONG_DIGEST,
        ),
        (b"", ImageReason.TRUNCATED),
        (b"\x7fELF".ljust(64, b"\0"), ImageReason.BAD_MAGIC),
    ],
)
def test_refused_with_its_reason(image: bytes, reason: ImageReason) -> None:
    assert refused(image) is reason


@pytest.mark.parametrize("flags", [0x1, 0x100, 0x101])
def test_allowed_flags(flags: int) -> None:
    assert check(make(flags=flags)).counter == 7


@settings(deadline=None, max_examples=300)
@given(st.binary(max_size=300))
def test_garbage(data: bytes) -> None:
    refused(data)


@settings(deadline=None, max_examples=300)
@given(data=st.data())
def test_garbage_in_an_image(data: st.DataObject) -> None:
    image = bytearray(make())
    before = bytes(image)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(image)))
        end = data.draw(st.integers(at, min(len(image), at + 40)))
        image[at:end] = data.draw(st.binary(max_size=40))
    try:
        check(bytes(image))
    except ImageError:
        assert bytes(image) != before
    else:
        assert bytes(image) == before, "one image has one file"
