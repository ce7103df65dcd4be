"""The running program as a release of the `directory` back end, and device folders that start from it.

A release holds the package `swarm` without the lab, and a `__main__.py`. What it imports besides (msgspec, pynacl,
aiomqtt, pyyaml ...) comes from the Python that runs the launcher: a release updates the agent, not its libraries.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from swarm.cli.firmware.release_file import ReleaseFile
from swarm.install.bundle import FILES_MAX, pack_bundle
from swarm.install.filesystem import RealFileSystem
from swarm.install.package import pack_launcher
from swarm.install.port import InstallError
from swarm.install.setup import set_up
from swarm.primitives.errors import ConfigError

LAUNCHER: Final = "launch.pyz"
ROOT: Final = "install"
"""Launcher and slots in a device's folder."""

_MAIN: Final = b'"""The agent of this release; started by the launcher."""\n\nfrom swarm.cli.main import main\n\nmain()\n'
_LEFT_OUT: Final = frozenset({"__pycache__", "lab"})


def program_files() -> dict[str, bytes]:
    """Return the running program as the files of a release: path -> content."""
    package = Path(__file__).resolve().parents[2]
    files = {"__main__.py": _MAIN}
    for path in sorted(package.rglob("*")):
        inside = path.relative_to(package)
        if path.is_file() and _LEFT_OUT.isdisjoint(inside.parts):
            files[f"{package.name}/{inside.as_posix()}"] = path.read_bytes()
    return files


def program_bundle() -> bytes:
    """Return the running program as an image of the `directory` back end; the same program gives the same bytes."""
    return pack_bundle(program_files())


def folder_bundle(folder: Path) -> bytes:
    """Return the image that holds what lies in `folder`; raises `ConfigError` for links, strange names or no program."""
    files: dict[str, bytes] = {}
    try:
        for path in _walk(folder):
            if path.is_symlink() or not path.is_file():
                raise ConfigError("a release holds plain files only, no links or devices", where=str(path))
            files[path.relative_to(folder).as_posix()] = path.read_bytes()
            if len(files) > FILES_MAX:
                raise ConfigError(f"more than {FILES_MAX} files", where=str(folder))
    except OSError as error:
        raise ConfigError(f"cannot be read: {error.strerror}", where=str(error.filename or folder)) from None
    check_program(files, folder)
    return pack_bundle(files)


def check_program(files: Mapping[str, bytes], source: Path) -> None:
    """Raise `ConfigError` unless the launcher would find something to start."""
    if "__main__.py" not in files:
        raise ConfigError(
            "has no __main__.py", where=str(source), hint="the launcher starts the folder as a Python program"
        )


def _walk(folder: Path) -> list[Path]:
    found = []
    for place, folders, names in os.walk(folder):
        # Python writes it beside every module; no device takes it.
        folders[:] = sorted(name for name in folders if name != "__pycache__")
        found += [Path(place) / name for name in sorted(names)]
        found += [Path(place) / name for name in folders if (Path(place) / name).is_symlink()]
    return found


def outfit_device(folder: Path, release: ReleaseFile) -> None:
    """Lay out launcher and slots in a device's folder, with `release` sealed and confirmed in slot a.

    Raises `ConfigError` when the disk fails or the release is none of the `directory` back end.
    """
    root = folder / ROOT
    try:
        (folder / LAUNCHER).write_bytes(pack_launcher())
        root.mkdir(mode=0o700)
        set_up(RealFileSystem(), str(root), release.plan, release.image)
    except (OSError, InstallError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"cannot be set up: {reason}", where=str(root)) from None
