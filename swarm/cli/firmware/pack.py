"""`swarm firmware pack` and `verify`: from an image to a release file, and what a release file or a proof proves."""

from __future__ import annotations

import base64
import binascii
import re
import struct
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

import typer

from swarm.apps.rollout.manifest import sign_release
from swarm.cli.files import JsonOption, load_genesis, read_file, words_beside, write_json
from swarm.cli.firmware.keys import check_release_keys, load_keys, signature_line
from swarm.cli.firmware.manifests import (
    CLASS_DEFAULT,
    DeviceClass,
    make_release,
    read_chunk_bytes,
    read_class,
    read_needs,
    read_range,
)
from swarm.cli.firmware.program import check_program, folder_bundle, program_bundle
from swarm.cli.firmware.release_file import IMAGE_BYTES_MAX, SUFFIX, ReleaseFile, save_release
from swarm.cli.firmware.words import describe_manifest, report_manifest
from swarm.install.bundle import FILES_MAX, pack_bundle, parse_bundle
from swarm.install.bundle import MAGIC as BUNDLE_MAGIC
from swarm.install.image import IMAGE_MAGIC, ImageError, ImageRules, verify_image
from swarm.primitives.errors import ConfigError
from swarm.primitives.limits import NUMBER_MAX
from swarm.primitives.version import VERSION

_SPKI_PREFIX: Final = bytes.fromhex("302a300506032b6570032100")
_HEX_KEY: Final = re.compile(rb"\s*([0-9a-f]{64})\s*")
_PEM: Final = re.compile(rb"-----BEGIN PUBLIC KEY-----([A-Za-z0-9+/=\s]*)-----END PUBLIC KEY-----\s*")
_COUNTER_MAX: Final = 2**32 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class _Image:
    """An image that a device would take, and what it says about itself; None where it says nothing."""

    data: bytes
    digest: bytes
    version: str | None = None
    counter: int | None = None


ImageArgument = Annotated[
    Path | None,
    typer.Argument(
        metavar="[IMAGE]",
        show_default=False,
        help="A folder or a .pyz with a __main__.py, or an image made by imgtool; left out: this very program.",
    ),
]
NumberOption = Annotated[
    int, typer.Option("--number", min=1, show_default=False, help="Orders the releases of a class; it grows.")
]
OutOption = Annotated[
    Path, typer.Option("--out", metavar=f"FILE{SUFFIX}", show_default=False, help="Where to.")
]
ClassOption = Annotated[
    str, typer.Option("--class", metavar="VENDOR/CLASS", help="What kind of device it is for.")
]
VersionOption = Annotated[
    str | None,
    typer.Option("--version", show_default=False, help="For people; the image's own if left out."),
]
CounterOption = Annotated[
    int | None,
    typer.Option(
        "--counter", min=0, show_default=False, help="Security counter; grows only to kill older images."
    ),
]
ChunkOption = Annotated[
    str | None, typer.Option("--chunk", metavar="SIZE", show_default=False, help="4KiB to 32KiB.")
]
UseBeforeOption = Annotated[
    int, typer.Option("--use-before", min=0, help="No start above this height of the log; 0: no end.")
]
NeedsOption = Annotated[
    list[str] | None,
    typer.Option("--needs", metavar="VENDOR/CLASS:NUMBER", help="Another class must have this; repeatable."),
]
ImageKeyOption = Annotated[
    Path | None,
    typer.Option("--image-key", help="Public key that the bootloader checks: PEM or 64 hex digits."),
]


def pack(
    image: ImageArgument = None,
    *,
    genesis: Annotated[Path, typer.Option("--genesis", show_default=False, help="The swarm's genesis file.")],
    number: NumberOption,
    out: OutOption,
    class_: ClassOption = CLASS_DEFAULT,
    version: VersionOption = None,
    counter: CounterOption = None,
    oldest: Annotated[int, typer.Option("--oldest", min=0, help="Lowest number that it may follow.")] = 0,
    chunk: ChunkOption = None,
    use_before: UseBeforeOption = 0,
    protocols: Annotated[
        str, typer.Option("--protocols", metavar="A..B", help="Protocol versions it speaks.")
    ] = "1",
    stores: Annotated[str, typer.Option("--stores", metavar="A..B", help="Store formats it reads.")] = "1",
    needs: NeedsOption = None,
    notes: Annotated[str, typer.Option("--notes", help="Up to 1,024 bytes for people.")] = "",
    image_key: ImageKeyOption = None,
    key: Annotated[
        list[Path] | None, typer.Option("--key", help="Sign with this release key at once; repeatable.")
    ] = None,
    json: JsonOption = None,
) -> None:
    """Check an image, write its manifest and both into one file that release keys sign.

    The same image and options give the same bytes. Other holders of keys add theirs with `swarm firmware sign`.
    """
    members = load_genesis(genesis)
    keypairs = load_keys(key or [])
    check_release_keys(members, keypairs)
    _check_numbers(number, oldest, use_before, counter or 0)
    if out.suffix != SUFFIX:
        raise ConfigError(f"a release file ends in {SUFFIX}", where="--out")
    device_class = read_class(class_)
    found = _load_image(image, device_class, image_key)
    release = make_release(
        found.data,
        swarm=members.id,
        device_class=device_class,
        number=number,
        version=_version_of(found, version),
        image_digest=found.digest,
        counter=_counter_of(found, counter),
        oldest=oldest,
        chunk_bytes=read_chunk_bytes(chunk, len(found.data)),
        use_before=use_before,
        protocols=read_range(protocols, "--protocols"),
        stores=read_range(stores, "--stores"),
        needs=read_needs(needs or []),
        notes=notes,
    )
    for keypair in keypairs:
        release = release.with_signature(sign_release(keypair, release.id))
    save_release(release, out)
    words = words_beside(json)
    print("\n".join(describe_manifest(release.manifest)), file=words)
    print(signature_line(release, members), file=words)
    print(f"written to {out}", file=words)
    if json is not None:
        write_json(report_release(release), json)


def _check_numbers(number: int, oldest: int, use_before: int, counter: int) -> None:
    for value, limit, where in (
        (number, NUMBER_MAX, "--number"),
        (oldest, NUMBER_MAX, "--oldest"),
        (use_before, NUMBER_MAX, "--use-before"),
        (counter, _COUNTER_MAX, "--counter"),
    ):
        if value > limit:
            raise ConfigError(f"{value} is too large", where=where)
    if oldest >= number:
        raise ConfigError(f"{oldest} is not below the release's own number {number}", where="--oldest")


def _version_of(image: _Image, wanted: str | None) -> str:
    version = wanted or image.version
    if not version:
        raise ConfigError("is missing", where="--version", hint="such as 1.4.2")
    return version


def _counter_of(image: _Image, wanted: int | None) -> int:
    if wanted is not None and image.counter is not None and wanted != image.counter:
        raise ConfigError(f"{wanted}, but the image itself says {image.counter}", where="--counter")
    return image.counter if image.counter is not None else wanted or 0


def report_release(release: ReleaseFile) -> dict[str, object]:
    """Return what `--json` writes about a release file."""
    return {
        **report_manifest(release.manifest),
        "signed_by": [name.hex() for name, _ in release.signatures],
    }


# ------------------------------------------------------------------------------------------ images


def _load_image(path: Path | None, device_class: DeviceClass, image_key: Path | None) -> _Image:
    if path is None:
        data = program_bundle()
        return _Image(data=data, digest=parse_bundle(data).digest, version=VERSION)
    if path.is_dir():
        data = folder_bundle(path)
        return _Image(data=data, digest=parse_bundle(data).digest)
    data = read_file(path, IMAGE_BYTES_MAX)
    if len(data) > IMAGE_BYTES_MAX:
        raise ConfigError(f"longer than {IMAGE_BYTES_MAX} bytes", where=str(path))
    try:
        if data.startswith(BUNDLE_MAGIC):
            bundle = parse_bundle(data)
            check_program({entry.path: b"" for entry in bundle.entries}, path)
            return _Image(data=data, digest=bundle.digest)
        if data.startswith(struct.pack("<I", IMAGE_MAGIC)):
            return _load_mcuboot(data, path, device_class, image_key)
    except ImageError as error:
        raise ConfigError(f"no device would take this image: {error}", where=str(path)) from None
    if zipfile.is_zipfile(path):
        data = _unzip(path)
        return _Image(data=data, digest=parse_bundle(data).digest)
    raise ConfigError(
        "is no image", where=str(path), hint="a folder, a .pyz, or a file made by `imgtool sign`"
    )


def _load_mcuboot(data: bytes, path: Path, device_class: DeviceClass, image_key: Path | None) -> _Image:
    if image_key is None:
        raise ConfigError(
            "an MCUboot image is checked as its bootloader checks it",
            where=str(path),
            hint="give the bootloader's public key with --image-key (`imgtool getpub -e pem`)",
        )
    rules = ImageRules(
        keys=(read_image_key(image_key),), vendor=device_class.vendor, device_class=device_class.class_uuid
    )
    info = verify_image(data, rules, bytes_max=IMAGE_BYTES_MAX)
    return _Image(data=data, digest=info.digest, version=str(info.version), counter=info.counter)


def read_image_key(path: Path) -> bytes:
    """Return the Ed25519 public key (32 bytes) in a PEM file or in 64 hex digits; raises `ConfigError`."""
    content = read_file(path, 4096)
    if match := _HEX_KEY.fullmatch(content):
        return bytes.fromhex(match[1].decode("ascii"))
    if match := _PEM.fullmatch(content):
        try:
            der = base64.b64decode(b"".join(match[1].split()), validate=True)
        except binascii.Error:
            der = b""
        if der.startswith(_SPKI_PREFIX) and len(der) == len(_SPKI_PREFIX) + 32:
            return der[len(_SPKI_PREFIX) :]
    raise ConfigError(
        "holds no Ed25519 public key", where=str(path), hint="`imgtool getpub -e pem` writes one"
    )


def _unzip(path: Path) -> bytes:
    """Return the bundle of what a zip application holds."""
    files: dict[str, bytes] = {}
    left = IMAGE_BYTES_MAX
    try:
        with zipfile.ZipFile(path) as archive:
            for info in archive.infolist():
                if info.is_dir():
                    continue
                left -= info.file_size
                if left < 0 or len(files) >= FILES_MAX:
                    raise ConfigError("too large or too many files", where=str(path))
                if info.filename in files:
                    raise ConfigError(f"holds {info.filename!r} twice", where=str(path))
                if "__pycache__" not in info.filename.split("/"):
                    files[info.filename] = archive.read(info)
    except (zipfile.BadZipFile, OSError, NotImplementedError, RuntimeError, EOFError) as error:
        raise ConfigError(f"cannot be unpacked: {error}", where=str(path)) from None
    check_program(files, path)
    return pack_bundle(files)
