"""What `swarm init --firmware` adds to a new swarm: release keys, and this very program as release 1 of its devices."""

from __future__ import annotations

import re
import secrets
import shlex
import shutil
import sys
from dataclasses import dataclass
from json import dumps
from pathlib import Path
from typing import Final

from swarm.agent.keyfile import write_key_file
from swarm.apps.rollout.manifest import sign_release
from swarm.cli.firmware.manifests import DeviceClass, make_release
from swarm.cli.firmware.program import LAUNCHER, ROOT, program_bundle
from swarm.cli.firmware.release_file import SUFFIX, ReleaseFile, save_release
from swarm.crypto.keys import SEED_BYTES, KeyPair
from swarm.install.bundle import parse_bundle
from swarm.primitives.errors import ConfigError
from swarm.primitives.limits import RELEASE_KEYS_MAX
from swarm.primitives.version import VERSION
from swarm.wire.genesis import Genesis, ReleaseKeys

RELEASE_FOLDER: Final = "release"
KEY_SUFFIX: Final = ".key"
PUBLIC_SUFFIX: Final = ".pub"

_THRESHOLD: Final = re.compile(r"([0-9]{1,3})/([0-9]{1,3})")


@dataclass(frozen=True, slots=True)
class NewKeys:
    """Fresh release keys: `k` of them sign a release."""

    k: int
    pairs: tuple[KeyPair, ...]

    @property
    def for_genesis(self) -> ReleaseKeys:
        """The public half."""
        return ReleaseKeys(self.k, tuple(pair.public for pair in self.pairs))


def read_threshold(text: str, where: str) -> tuple[int, int]:
    """Return (k, n) of `K/N`; raises `ConfigError` for what no swarm could use."""
    match = _THRESHOLD.fullmatch(text)
    if match is None:
        raise ConfigError(f"{text!r} is not K/N", where=where, hint="such as 2/3: two of three keys sign")
    k, n = int(match[1]), int(match[2])
    if not 1 <= n <= RELEASE_KEYS_MAX:
        raise ConfigError(f"1 to {RELEASE_KEYS_MAX} keys sign releases, {n} given", where=where)
    if not 1 <= k <= n:
        raise ConfigError(f"{k} of {n} keys cannot sign", where=where)
    return k, n


def new_keys(threshold: tuple[int, int]) -> NewKeys:
    """Return n fresh release keys of which k sign."""
    k, n = threshold
    return NewKeys(k, tuple(KeyPair(secrets.token_bytes(SEED_BYTES)) for _ in range(n)))


def write_key_pair(path: Path, keypair: KeyPair) -> Path:
    """Write a key file, and its public half beside it; returns the latter's path. Raises `ConfigError`."""
    public = path.with_suffix(PUBLIC_SUFFIX)
    if public.exists():
        raise ConfigError("exists already, a key is never overwritten", where=str(public))
    write_key_file(path, keypair.seed)
    try:
        public.write_text(f"{keypair.public.hex()}\n", encoding="ascii")
        public.chmod(0o644)
    except OSError as error:
        raise ConfigError(f"cannot be written: {error.strerror}", where=str(public)) from None
    return public


def first_release(genesis: Genesis, device_class: DeviceClass, keys: NewKeys) -> ReleaseFile:
    """Return this very program as release 1, signed by k keys."""
    image = program_bundle()
    release = make_release(
        image,
        swarm=genesis.id,
        device_class=device_class,
        number=1,
        version=VERSION,
        image_digest=parse_bundle(image).digest,
    )
    for pair in keys.pairs[: keys.k]:
        release = release.with_signature(sign_release(pair, release.id))
    return release


def write_release_folder(folder: Path, keys: NewKeys, release: ReleaseFile) -> None:
    """Write the release keys and release 1 into a new folder for its owner only."""
    folder.mkdir(mode=0o700)
    for number, pair in enumerate(keys.pairs):
        write_key_pair(folder / f"release-{number}{KEY_SUFFIX}", pair)
    save_release(release, folder / f"1{SUFFIX}")


def firmware_line(text: str) -> str:
    """Return what `agent.yaml` says about a device's firmware; `text` = VENDOR/CLASS."""
    vendor, _, class_text = text.partition("/")
    return (
        "# Its firmware: two slots below `install`, started by launch.pyz. `approve: 1` follows one operator's wish,\n"
        "# `auto` nobody's; a quorum of voters has to approve all the same.\n"
        f"firmware: {{backend: directory, root: {ROOT}, vendor: {dumps(vendor)}, class: {dumps(class_text)},\n"
        "  approve: 1, obey_halt: true}\n"
    )


def launcher_command(directory: Path, device: str) -> str:
    """Return the line that starts a device through its launcher, with the Python that runs this."""
    folder = f"{directory}/{device}"
    found = shutil.which("python3")
    python = "python3" if found and Path(found).parent == Path(sys.executable).parent else sys.executable
    words = [python, "-I", f"{folder}/{LAUNCHER}", "--root", f"{folder}/{ROOT}"]
    return shlex.join([*words, "--", "agent", f"{folder}/agent.yaml"])
