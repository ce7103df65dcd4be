"""`swarm firmware keygen`, `pack`, `sign` and `verify`: offline, deterministic, and strict about every byte."""

from __future__ import annotations

import io
import json
import stat
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from swarm.agent.keyfile import read_key_file
from swarm.apps.rollout.manifest import Manifest
from swarm.cli.firmware.release_file import MAGIC, ReleaseFile, load_release, parse_release
from swarm.crypto.digest import sha256
from swarm.crypto.keys import KeyPair
from swarm.install.bundle import pack_bundle, parse_bundle
from swarm.install.identity import class_id, vendor_id
from swarm.primitives.errors import DecodeError
from swarm.wire.codec import encode
from swarm.wire.genesis import Genesis, parse_genesis
from tests.support.commands import Done, swarm

IMGTOOL = Path(sys.executable).with_name("imgtool")


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a swarm with 2 of 3 release keys, and a program beside it."""
    folder = tmp_path_factory.mktemp("fleet")
    assert swarm("init", folder / "fleet", "--devices", 1, "--firmware", "2/3").code == 0
    program = folder / "program"
    (program / "lib").mkdir(parents=True)
    (program / "__main__.py").write_text("print('v2')\n")
    (program / "lib" / "data.bin").write_bytes(bytes(range(256)) * 40)
    (program / "__pycache__").mkdir()
    (program / "__pycache__" / "x.pyc").write_bytes(b"junk")
    return folder


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fleet: Path) -> Path:
    """Work in an empty folder from which `fleet` and `program` can be named."""
    (tmp_path / "fleet").symlink_to(fleet / "fleet")
    (tmp_path / "program").symlink_to(fleet / "program")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def genesis_of(fleet: str = "fleet") -> Genesis:
    return parse_genesis(Path(fleet, "genesis.json").read_text())


def pack(*words: object, image: object = "program", number: int = 2, out: str = "two.swfw") -> Done:
    given = () if image is None else (image,)
    return swarm(
        "firmware", "pack", *given, "--genesis", "fleet/genesis.json", "--number", number, "--out", out,
        *(() if "--version" in words else ("--version", "2.0")), *words,
    )  # fmt: skip


def key(number: int) -> str:
    return f"fleet/release/release-{number}.key"


# ------------------------------------------------------------------------------ keygen


def test_keygen_writes_a_key_for_its_owner_and_its_public_half(work: Path) -> None:
    done = swarm("firmware", "keygen", "me.key", "--json", "-")
    assert done.code == 0, done.err
    assert stat.S_IMODE(Path("me.key").stat().st_mode) == 0o600
    public = KeyPair(read_key_file("me.key")).public.hex()
    assert Path("me.pub").read_text() == public + "\n"
    assert json.loads(done.out) == {"public": public, "key_id": sha256(bytes.fromhex(public))[:8].hex()}
    assert read_key_file("me.key").hex() not in done.out + done.err


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("me.pem", "me.pem: a key file ends in .key"),
        ("no/me.key", "no/me.key: there is no folder no (make it first)"),
        ("taken.key", "taken.key: exists already, a key is never overwritten"),
        ("half.key", "half.pub: exists already, a key is never overwritten"),
    ],
)
def test_keygen_never_overwrites(work: Path, name: str, line: str) -> None:
    Path("taken.key").write_text("mine")
    Path("half.pub").write_text("mine")
    done = swarm("firmware", "keygen", name)
    assert done.code == 2
    assert done.error_line.startswith(line)
    assert Path("taken.key").read_text() == "mine"
    assert not Path("half.key").exists()


# ------------------------------------------------------------------------------ pack and sign


def test_pack_says_what_it_packed_and_the_same_input_gives_the_same_bytes(work: Path) -> None:
    words = ("--counter", 3, "--oldest", 1, "--chunk", "4KiB", "--notes", "better", "--key", key(0))
    done = pack(*words, "--json", "two.json")
    assert done.code == 0, done.err
    release = load_release(Path("two.swfw"), genesis_of().id)
    manifest = release.manifest
    assert (manifest.number, manifest.version, manifest.counter, manifest.oldest) == (2, "2.0", 3, 1)
    assert (manifest.chunk_bytes, manifest.chunk_count) == (4096, 3)
    assert manifest.vendor == vendor_id("swarm.example")
    assert manifest.class_uuid == class_id(manifest.vendor, "agent")
    assert [entry.path for entry in parse_bundle(release.image).entries] == ["__main__.py", "lib/data.bin"]
    assert done.out.startswith(f"release {release.id[:4].hex()}: number 2, version 2.0, security counter 3\n")
    assert "in 3 chunks of 4 KiB, digest " in done.out
    assert "1 of the 2 that the swarm asks for; 1 more must sign\n" in done.out
    result = json.loads(Path("two.json").read_text())
    assert result["release"] == release.id.hex()
    assert result["notes"] == "better"

    assert pack(*words, out="again.swfw").code == 0
    assert Path("again.swfw").read_bytes() == Path("two.swfw").read_bytes()


def test_holders_sign_one_after_the_other_wherever_they_are(work: Path) -> None:
    pack("--key", key(0))
    first = swarm("firmware", "verify", "two.swfw", "--genesis", "fleet/genesis.json")
    assert first.code == 1
    assert "1 keys of genesis signed it, 2 must" in first.error_line
    signed = swarm("firmware", "sign", "two.swfw", "--key", key(2), "--genesis", "fleet/genesis.json")
    assert signed.code == 0, signed.err
    assert "release " in signed.out.splitlines()[0]
    assert "2 of the 2 that the swarm asks for; enough to propose it" in signed.out
    good = swarm("firmware", "verify", "two.swfw", "--genesis", "fleet/genesis.json", "--json", "-")
    assert good.code == 0
    assert json.loads(good.out)["verified"] is True
    assert "GOOD for swarm fleet" in good.err

    # The order of the holders does not show, and nobody counts twice.
    pack("--key", key(2), out="other.swfw")
    for number in (0, 2):
        assert swarm("firmware", "sign", "other.swfw", "--key", key(number)).code == 0
    assert Path("other.swfw").read_bytes() == Path("two.swfw").read_bytes()


def test_without_an_image_this_very_program_is_packed(work: Path) -> None:
    done = pack("--version", "9", image=None)
    assert done.code == 0, done.err
    assert load_release(Path("two.swfw")).image == load_release(Path("fleet/release/1.swfw")).image


def test_a_zip_application_is_unpacked(work: Path) -> None:
    with zipfile.ZipFile("app.pyz", "w") as archive:
        archive.writestr("__main__.py", "print('v2')\n")
        archive.writestr("lib/data.bin", bytes(range(256)) * 40)
    assert pack(image="app.pyz", out="a.swfw").code == 0
    assert pack(out="b.swfw").code == 0
    assert Path("a.swfw").read_bytes() == Path("b.swfw").read_bytes()


@pytest.mark.skipif(not IMGTOOL.exists(), reason="imgtool is not installed")
def test_an_image_of_stock_imgtool_is_packed_and_checked_as_the_bootloader_would(work: Path) -> None:
    Path("app.bin").write_bytes(bytes(range(256)) * 32)
    run = [str(IMGTOOL)]
    subprocess.run([*run, "keygen", "-k", "image.pem", "-t", "ed25519"], check=True, capture_output=True)
    public = subprocess.run([*run, "getpub", "-k", "image.pem", "-e", "pem"], check=True, capture_output=True)
    Path("image.pub.pem").write_bytes(public.stdout)
    subprocess.run(
        [
            *run, "sign", "-k", "image.pem", "-v", "1.2.3+4", "-H", "32", "--pad-header", "-S", "65536",
            "--align", "4", "-s", "7", "--vid", "acme.example", "--cid", "gateway", "app.bin", "app.img",
        ],
        check=True, capture_output=True,
    )  # fmt: skip
    words = ("firmware", "pack", "app.img", "--genesis", "fleet/genesis.json", "--number", 5)
    done = swarm(
        *words, "--out", "app.swfw", "--class", "acme.example/gateway", "--image-key", "image.pub.pem"
    )
    assert done.code == 0, done.err
    manifest = load_release(Path("app.swfw")).manifest
    assert (manifest.version, manifest.counter) == ("1.2.3+4", 7)

    missing = swarm(*words, "--out", "b.swfw", "--class", "acme.example/gateway")
    assert missing.code == 2
    assert "give the bootloader's public key with --image-key" in missing.error_line
    other = swarm(*words, "--out", "b.swfw", "--class", "acme.example/door", "--image-key", "image.pub.pem")
    assert other.code == 2
    assert "no device would take this image: wrong-class" in other.error_line
    counter = swarm(
        *words, "--out", "b.swfw", "--class", "acme.example/gateway", "--image-key", "image.pub.pem",
        "--counter", 6,
    )  # fmt: skip
    assert counter.error_line.startswith("--counter: 6, but the image itself says 7")
    cut = Path("app.img").read_bytes()[:-1]
    Path("cut.img").write_bytes(cut)
    broken = swarm(
        "firmware", "pack", "cut.img", *words[3:], "--out", "b.swfw", "--class", "acme.example/gateway",
        "--image-key", "image.pub.pem",
    )  # fmt: skip
    assert "no device would take this image: truncated" in broken.error_line
    assert not Path("b.swfw").exists()


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("--chunk", "5KiB"), "--chunk: 5KiB is no chunk size (4KiB, 8KiB, 16KiB or 32KiB)"),
        (("--chunk", "64KiB"), "--chunk: 64KiB is no chunk size"),
        (("--chunk", "big"), "--chunk: 'big' is no size (such as 32KiB)"),
        (("--oldest", 2), "--oldest: 2 is not below the release's own number 2"),
        (("--counter", 2**32), "--counter: 4294967296 is too large"),
        (("--version", "x" * 33), "release: no device would take this manifest: malformed"),
        (("--version", "käse"), "release: no device would take this manifest: version"),
        (("--notes", "x" * 1025), "release: no device would take this manifest: malformed"),
        (("--protocols", "2..1"), "release: no device would take this manifest: protocols"),
        (("--stores", "new"), "--stores: 'new' is no range of versions"),
        (("--needs", "acme.example/door"), "--needs: 'acme.example/door' is not VENDOR/CLASS:NUMBER"),
        (
            ("--needs", "acme.example/door:1", "--needs", "acme.example/door:2"),
            "release: no device would take this manifest: needs",
        ),
        (("--class", "gateway"), "--class: 'gateway' is not VENDOR/CLASS"),
        (("--key", "fleet/dev-0/dev-0.key"), "--key: key "),
        (("--key", "nowhere.key"), "nowhere.key: no such key file"),
        (("--out", "two.bin"), "--out: a release file ends in .swfw"),
        (("--out", "no/two.swfw"), "no/two.swfw: cannot be written"),
    ],
)
def test_bad_input_to_pack_is_one_line_and_makes_nothing(
    work: Path, words: tuple[object, ...], line: str
) -> None:
    done = pack(*words)
    assert (done.code, done.out) == (2, "")
    assert done.error_line.startswith(line)
    assert not [path for path in work.iterdir() if path.suffix == ".swfw"]


def test_a_key_that_others_can_read_is_refused(work: Path) -> None:
    swarm("firmware", "keygen", "open.key")
    Path("open.key").chmod(0o644)
    pack()
    done = swarm("firmware", "sign", "two.swfw", "--key", "open.key")
    assert done.code == 2
    assert "chmod" in done.error_line


@pytest.mark.parametrize(
    ("name", "content", "line"),
    [
        ("empty", b"", "is no image"),
        ("noise", b"\x00" * 100, "is no image"),
        ("half.zip", b"PK\x03\x04broken", "is no image"),
        ("bundle", pack_bundle({"a.py": b""}), "has no __main__.py"),
        ("torn", pack_bundle({"__main__.py": b"x"})[:-1], "no device would take this image: truncated"),
        (
            "longer",
            pack_bundle({"__main__.py": b"x"}) + b"y",
            "no device would take this image: trailing-bytes",
        ),
    ],
)
def test_what_is_no_image_is_refused(work: Path, name: str, content: bytes, line: str) -> None:
    Path(name).write_bytes(content)
    done = pack(image=name)
    assert done.code == 2
    assert done.error_line.startswith(f"{name}: {line}")


def test_a_folder_with_links_or_without_a_program_is_refused(work: Path) -> None:
    Path("linked").mkdir()
    Path("linked/__main__.py").write_text("")
    Path("linked/out").symlink_to("/etc")
    done = pack(image="linked")
    assert done.error_line == "linked/out: a release holds plain files only, no links or devices"
    Path("bare").mkdir()
    Path("bare/x.py").write_text("")
    assert pack(image="bare").error_line.startswith("bare: has no __main__.py")


def test_a_zip_that_leads_out_or_repeats_itself_is_refused(work: Path) -> None:
    for name, entries in (("out.pyz", ["__main__.py", "../x"]), ("abs.pyz", ["__main__.py", "/x"])):
        with zipfile.ZipFile(name, "w") as archive:
            for entry in entries:
                archive.writestr(entry, b"")
        assert "cannot be the path of a file in a release" in pack(image=name).error_line
    raw = io.BytesIO()
    with zipfile.ZipFile(raw, "w") as archive:
        archive.writestr("__main__.py", b"1")
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("__main__.py", b"2")
    Path("twice.pyz").write_bytes(raw.getvalue())
    assert "holds '__main__.py' twice" in pack(image="twice.pyz").error_line


def test_a_swarm_without_release_keys_takes_no_firmware(work: Path) -> None:
    swarm("init", "plain", "--devices", 1)
    done = swarm(
        "firmware", "pack", "program", "--genesis", "plain/genesis.json", "--number", 1, "--version", "1",
        "--out", "x.swfw",
    )  # fmt: skip
    assert done.code == 2
    assert "swarm plain has no release keys (make one with `swarm init --firmware K/N`)" in done.error_line


# ------------------------------------------------------------------------------ files that must not be believed


@pytest.fixture
def release(work: Path) -> ReleaseFile:
    assert pack("--key", key(0), "--key", key(1)).code == 0
    return load_release(Path("two.swfw"))


def with_manifest(release: ReleaseFile, **changes: object) -> bytes:
    changed = msgspec.structs.replace(release.manifest, **changes)
    return ReleaseFile(manifest=changed, signatures=release.signatures, image=release.image).encode()


def judge(data: bytes) -> Done:
    Path("bad.swfw").write_bytes(data)
    return swarm("firmware", "verify", "bad.swfw", "--genesis", "fleet/genesis.json")


def test_every_way_to_spoil_a_release_is_refused_with_its_reason(release: ReleaseFile) -> None:
    good = release.encode()
    size = len(release.image)
    cases: list[tuple[bytes, str]] = [
        (good[:-1], "truncated"),
        (good + b"x", "trailing-bytes"),
        (good[:10], "truncated"),
        (good[:30], "truncated"),
        (MAGIC + b"\xff\xff\xff\xff" + good[12:], "oversized"),
        (good[: len(good) - 1] + bytes([good[-1] ^ 1]), "wrong-file"),
        (with_manifest(release, number=3), "0 keys of genesis signed it"),
        (with_manifest(release, swarm=bytes(32)), "other-swarm"),
        (with_manifest(release, chunk_bytes=5000), "chunk-size"),
        (with_manifest(release, chunk_count=99), "chunk-count"),
        (with_manifest(release, file_bytes=size - 1), "trailing-bytes"),
        (with_manifest(release, chunk_root=bytes(32)), "wrong-chunk-root"),
        (with_manifest(release, image_digest=bytes(32)), "wrong-digest"),
        (with_manifest(release, oldest=2), "oldest"),
        (with_manifest(release, format=2), "format"),
    ]
    for data, reason in cases:
        done = judge(data)
        assert done.code == 1, reason
        assert reason in done.error_line, (reason, done.error_line)


def test_a_manifest_in_another_encoding_is_refused(release: ReleaseFile) -> None:
    plain = release.manifest_bytes
    # The same numbers, one of them written longer than need be.
    at = plain.index(b"\xa32.0")
    longer = plain[:at] + b"\xd9\x03" + plain[at + 1 :]
    assert msgspec.msgpack.decode(longer, type=Manifest) == release.manifest
    head = encode((longer, release.signatures))
    data = MAGIC + len(head).to_bytes(4, "big") + head + release.image
    with pytest.raises(DecodeError, match="not-canonical"):
        parse_release(data)


def test_signatures_out_of_order_or_doubled_are_refused(release: ReleaseFile) -> None:
    first, second = release.signatures
    for signatures in ((second, first), (first, first, second)):
        data = ReleaseFile(manifest=release.manifest, signatures=signatures, image=release.image).encode()
        with pytest.raises(DecodeError, match="signatures"):
            parse_release(data)


def test_a_signature_for_another_release_does_not_count(release: ReleaseFile) -> None:
    pack(number=3, out="three.swfw")
    other = load_release(Path("three.swfw"))
    assert judge(replace(other, signatures=release.signatures).encode()).error_line.startswith(
        "bad.swfw: proves nothing: 0 keys of genesis signed it, 2 must"
    )


def test_a_file_of_something_else_proves_nothing(work: Path) -> None:
    Path("x.proof").write_bytes(b"junk")
    done = swarm("firmware", "verify", "x.proof", "--genesis", "fleet/genesis.json")
    assert done.code == 1
    assert done.error_line.startswith("x.proof: proves nothing: ")
