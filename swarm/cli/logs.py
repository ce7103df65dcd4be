"""What every command says beside its result: notices, warnings and errors, under `--log-level` and `--log-json`.

A line for people (`tell`) stands as it is. With `--log-json` each is one JSON object on stderr, with the records of
our modules and libraries among them; stdout then holds results and nothing else.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import io
import json
import logging
import sys
import traceback
from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import Annotated, Any, Final, TextIO

import typer

_TEXT: Final = "%(asctime)s.%(msecs)03d %(levelname)s %(name)s: %(message)s"
_PLAIN: Final = "is_plain"
"""Marks a record that is a line for people: no time, no level, no logger before it."""

_FOR_STDOUT: Final = "is_for_stdout"
_RECORD_FIELDS: Final = frozenset(vars(logging.makeLogRecord({}))) | {
    "message",
    "asctime",
    "taskName",
    _PLAIN,
    _FOR_STDOUT,
}
_JSON_OPTION: Final = "--log-json"
_SAY: Final = logging.getLogger("swarm")
"""Its level is `--log-level`; libraries are never louder than `warning` unless `debug` is asked for."""


class LogLevel(StrEnum):
    """Records of this level and above are printed."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


LogLevelOption = Annotated[
    LogLevel, typer.Option("--log-level", help="Say this and what is graver; results are no messages.")
]
LogJsonOption = Annotated[
    bool, typer.Option(_JSON_OPTION, help="Say everything on stderr, one JSON object a line.")
]


class JsonLines(logging.Formatter):
    """One JSON object a record: `time` (Unix seconds), `level`, `logger`, `message`, and the record's own extras."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of `record`; a value that JSON does not know is written as its text."""
        line: dict[str, Any] = {
            "time": round(record.created, 3),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= {
            key: value for key, value in vars(record).items() if key not in _RECORD_FIELDS and key not in line
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str, ensure_ascii=False)


class _PlainLines(logging.Formatter):
    """A line for people as it is, any other record with its time, level and logger before it."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line or lines of `record`."""
        return record.getMessage() if getattr(record, _PLAIN, False) else super().format(record)


class StderrHandler(logging.Handler):
    """Writes to what `sys.stderr` is at that moment, so that a redirection later on is followed."""

    @property
    def is_json(self) -> bool:
        """Whether each record is one JSON object."""
        return isinstance(self.formatter, JsonLines)

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line; logging must never end what it reports on, but a reader of stdout that went away does."""
        if getattr(record, _FOR_STDOUT, False) and not self.is_json:
            print(self.format(record), flush=True)
            return
        try:
            print(self.format(record), file=sys.stderr, flush=True)
        except (OSError, ValueError):
            self.handleError(record)


def configure_logging(level: LogLevel, *, as_json: bool) -> None:
    """Send the records of the whole process to stderr, those of `level` and above; a second call replaces the first."""
    logger = logging.getLogger()
    for earlier in [handler for handler in logger.handlers if isinstance(handler, StderrHandler)]:
        logger.removeHandler(earlier)
    handler = StderrHandler()
    handler.setFormatter(JsonLines() if as_json else _PlainLines(_TEXT, "%H:%M:%S"))
    logger.addHandler(handler)
    logger.setLevel(LogLevel.WARNING.upper() if level is LogLevel.INFO else level.upper())
    _SAY.setLevel(level.upper())
    # What Python itself warns of would else stand between the objects.
    logging.captureWarnings(as_json)


def configure_early(words: Sequence[str]) -> None:
    """Look for `--log-json` in a command line that is still to be read: its mistakes are lines of the log, too."""
    options = words[: words.index("--")] if "--" in words else words
    if _JSON_OPTION in options:
        configure_logging(LogLevel.INFO, as_json=True)


def is_json() -> bool:
    """Answer whether this process says everything as JSON: then nothing may be painted on the terminal."""
    handler = _handler()
    return handler is not None and handler.is_json


def tell(line: str, level: LogLevel = LogLevel.INFO, *, on_stdout: bool = False) -> None:
    """Say one line for people on stderr, or on stdout; below `--log-level` it is dropped.

    With `--log-json` it is an object on stderr in any case. Before `configure_logging` it is printed.
    """
    line = printable(line)
    if _handler() is None:
        print(line, file=sys.stdout if on_stdout else sys.stderr, flush=True)
        return
    number = logging.getLevelNamesMapping()[level.upper()]
    _SAY.log(number, "%s", line, extra={_PLAIN: True, _FOR_STDOUT: on_stdout})


def tell_error(line: str, bug: BaseException | None = None) -> None:
    """Say `swarm: error: line` on stderr, or its object; never dropped. A `bug` brings its traceback."""
    if is_json():
        _SAY.error("%s", line, exc_info=bug, extra={_PLAIN: True})
        return
    # A closed stderr must not turn an error into another one.
    with contextlib.suppress(OSError, ValueError):
        if bug is not None:
            traceback.print_exception(bug)
        print(f"swarm: error: {printable(line)}", file=sys.stderr, flush=True)


def printable(text: str) -> str:
    """Return `text` with every control character as its escape: what comes from files and peers moves no cursor."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def words_on_stderr() -> TextIO:
    """Return where a command writes sentences when its JSON goes to stdout: stderr, under the options of logging."""
    if is_json() or not _SAY.isEnabledFor(logging.INFO):
        return _Told()
    return sys.stderr


class _Told(io.TextIOBase, TextIO):
    """A stream whose lines are told one by one."""

    def __init__(self) -> None:
        self._rest = ""

    def write(self, text: str, /) -> int:
        *lines, self._rest = (self._rest + text).split("\n")
        for line in lines:
            if line.strip():
                tell(line.rstrip())
        return len(text)


def _handler() -> StderrHandler | None:
    handlers = logging.getLogger().handlers
    return next((handler for handler in handlers if isinstance(handler, StderrHandler)), None)


def with_log_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Return `command` with the two options of logging added to those of its signature."""
    signature = inspect.signature(command, eval_str=True)

    @functools.wraps(command)
    def wrapped(*, log_level: LogLevel, log_json: bool, **options: Any) -> Any:
        configure_logging(log_level, as_json=log_json)
        return command(**options)

    keyword = inspect.Parameter.KEYWORD_ONLY
    parameters = [parameter.replace(kind=keyword) for parameter in signature.parameters.values()]
    parameters += [
        inspect.Parameter("log_level", keyword, default=LogLevel.INFO, annotation=LogLevelOption),
        inspect.Parameter("log_json", keyword, default=False, annotation=LogJsonOption),
    ]
    # Typer reads a command's options from these two.
    wrapped.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]  # functools.wraps promises no such attribute
    wrapped.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return wrapped
