"""Key files: the 32-byte seed of an Ed25519 identity as 64 hex digits and a newline, for its owner only.

A key that others can read is a device that others can be, so such a file is refused instead of warned about.
"""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path
from typing import Final

from swarm.primitives.errors import ConfigError

SEED_BYTES: Final = 32
_FILE_BYTES: Final = 2 * SEED_BYTES + 1
_HEX = re.compile(rb"[0-9a-f]{64}\n?")


def write_key_file(path: Path | str, seed: bytes) -> None:
    """Write `seed` (32 bytes) into a new file that only its owner may read, and sync it.

    Never overwrites: a lost key cannot be made again. Raises `ConfigError` if the file exists or cannot be
    written; nothing is left behind then.
    """
    if len(seed) != SEED_BYTES:
        raise ConfigError(f"a key is {SEED_BYTES} bytes, got {len(seed)}", where=str(path))
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    try:
        descriptor = os.open(path, flags, 0o600)
    except FileExistsError:
        raise ConfigError(
            "exists already, a key is never overwritten", where=str(path), hint="choose another folder"
        ) from None
    except (OSError, ValueError) as error:
        raise _cannot("written", path, error) from None
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(file.fileno(), 0o600)
            file.write(seed.hex().encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        Path(path).unlink(missing_ok=True)
        raise _cannot("written", path, error) from None


def read_key_file(path: Path | str) -> bytes:
    """Return the seed (32 bytes) in a key file.

    Raises `ConfigError` on one line if the file is missing, not a regular file, of another owner, readable or
    writable by group or others (with the `chmod` to run), of a wrong length, or not hexadecimal. The content
    never appears in a message.
    """
    try:
        # O_NONBLOCK: a named pipe in place of the key must not hang the start
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        raise ConfigError("no such key file", where=str(path)) from None
    except (OSError, ValueError) as error:
        raise _cannot("read", path, error) from None
    try:
        # the open file is judged, not its name, so that nobody can swap it in between
        _check_owner_only(os.fstat(descriptor), path)
        content = os.read(descriptor, _FILE_BYTES + 1)
    except OSError as error:
        raise _cannot("read", path, error) from None
    finally:
        os.close(descriptor)
    if not 2 * SEED_BYTES <= len(content) <= _FILE_BYTES:
        size = "more than 65" if len(content) > _FILE_BYTES else str(len(content))
        raise ConfigError(
            f"a key file holds 64 hex digits and a newline, this one {size} bytes", where=str(path)
        )
    if not _HEX.fullmatch(content):
        raise ConfigError("a key file holds 64 hex digits (0-9, a-f) and a newline", where=str(path))
    return bytes.fromhex(content.decode().strip())


def _check_owner_only(status: os.stat_result, path: Path | str) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise ConfigError("is not a regular file", where=str(path))
    if status.st_uid != os.geteuid():
        raise ConfigError(
            f"belongs to user {status.st_uid}, this process runs as {os.geteuid()}",
            where=str(path),
            hint=f"chown {os.geteuid()} {path}",
        )
    if status.st_mode & 0o077:
        mode = stat.S_IMODE(status.st_mode)
        raise ConfigError(
            f"others may read this key (mode {mode:04o})", where=str(path), hint=f"chmod 600 {path}"
        )


def _cannot(verb: str, path: Path | str, error: Exception) -> ConfigError:
    reason = getattr(error, "strerror", None) or error
    return ConfigError(f"cannot be {verb}: {reason}", where=str(path))
