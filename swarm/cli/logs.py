"""Logging of every command: `--log-level` and `--log-json`, always on stderr."""

from __future__ import annotations

import functools
import inspect
import json
import logging
import sys
from collections.abc import Callable
from enum import StrEnum
from typing import Annotated, Any, Final

import typer

_TEXT: Final = "%(asctime)s.%(msecs)03d %(levelname)s %(name)s: %(message)s"
_RECORD_FIELDS: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class LogLevel(StrEnum):
    """Records of this level and above are printed."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


LogLevelOption = Annotated[LogLevel, typer.Option("--log-level", help="What is logged on stderr.")]
LogJsonOption = Annotated[bool, typer.Option("--log-json", help="Log one JSON object a line.")]


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


class StderrHandler(logging.Handler):
    """Writes to what `sys.stderr` is at that moment, so that a redirection later on is followed."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line; logging must never end what it reports on."""
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
    handler.setFormatter(JsonLines() if as_json else logging.Formatter(_TEXT, "%H:%M:%S"))
    logger.addHandler(handler)
    logger.setLevel(level.upper())


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
        inspect.Parameter("log_level", keyword, default=LogLevel.WARNING, annotation=LogLevelOption),
        inspect.Parameter("log_json", keyword, default=False, annotation=LogJsonOption),
    ]
    # Typer reads a command's options from these two.
    wrapped.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]  # functools.wraps promises no such attribute
    wrapped.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return wrapped
