"""Files that commands read and write, with a `ConfigError` of one line for each that cannot be."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any, Final, TextIO

import typer

from swarm.cli.logs import words_on_stderr
from swarm.primitives.errors import ConfigError
from swarm.primitives.limits import GENESIS_BYTES_MAX
from swarm.wire.genesis import Genesis, parse_genesis

STDOUT: Final = "-"
"""What stands for standard output where a file name is asked for."""


def check_json_target(target: str | None) -> str | None:
    """Return `target`; raises `ConfigError` before any work is done for what could not be written in the end."""
    if target is not None and target != STDOUT:
        try:
            path = Path(target).absolute()
            if not path.parent.is_dir():
                raise ConfigError(f"there is no folder {Path(target).parent}", where="--json")
            if path.is_dir():
                raise ConfigError(f"{target} is a folder", where="--json")
        except (OSError, ValueError) as error:
            raise ConfigError(f"cannot be written: {_reason(error)}", where="--json") from None
    return target


JsonOption = Annotated[
    str | None,
    typer.Option(
        "--json", metavar="FILE", callback=check_json_target, help="Write the result as JSON; - is stdout."
    ),
]
"""The option of every command that prints a table or a verdict; goes to `write_json` and `words_beside`."""


def read_file(path: Path, bytes_max: int) -> bytes:
    """Return the content of a file, cut after `bytes_max` + 1 bytes so that its reader can see it is too long.

    Raises `ConfigError` that says why it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return file.read(bytes_max + 1)
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot be read: {_reason(error)}", where=str(path)) from None


def load_genesis(path: Path) -> Genesis:
    """Return the checked genesis in the file at `path`; raises `ConfigError` with the file and the key's path."""
    content = read_file(path, 4 * GENESIS_BYTES_MAX)
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        raise ConfigError("not JSON: it is no UTF-8 text", where=str(path)) from None
    return parse_genesis(text, str(path))


def write_json(data: Any, target: str) -> None:
    """Write `data` as indented JSON with a final newline to the file `target`, or to standard output for `-`.

    Raises `ConfigError` when the file cannot be written.
    """
    text = json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    if target == STDOUT:
        sys.stdout.write(text)
        return
    try:
        Path(target).write_text(text, encoding="utf-8")
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot be written: {_reason(error)}", where=target) from None


def words_beside(json_target: str | None) -> TextIO:
    """Return where sentences for people go: stdout, but stderr when JSON goes to stdout."""
    return words_on_stderr() if json_target == STDOUT else sys.stdout


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)
