"""Where every command ends: one line on stderr for a person's mistake, a traceback only for our own bug.

Exit codes (CONTRACTS): 0 done and every expectation held; 1 an expectation, an invariant or a verification failed;
2 bad input or configuration. 130 and 141 are a shell's own for Ctrl-C and for a reader of our output that went away.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
from collections.abc import Callable, Iterator
from typing import Any, Final, cast

import typer

from swarm.cli.logs import tell_error
from swarm.primitives.errors import InvariantError, ProofError, SwarmError

EXIT_DONE: Final = 0
EXIT_FAILED: Final = 1
EXIT_BAD_INPUT: Final = 2
EXIT_INTERRUPTED: Final = 130
EXIT_PIPE_CLOSED: Final = 141

# Typer carries click inside itself in newer versions and depends on it in older ones; both have this family.
_UsageFamily: Final = cast("type[Exception]", typer.BadParameter.__mro__[2])


class CommandFailed(SwarmError):  # noqa: N818  -- an answer to the person, not a defect
    """What was asked for did not come about: an expectation that failed, a time-out. Exit code 1."""


def run_guarded(command: Callable[[], Any]) -> int:
    """Run `command` and return the exit code of the process; what went wrong stands on stderr by then.

    A command may return its exit code itself, or None for 0.
    """
    try:
        result = command()
        sys.stdout.flush()
    except typer.Exit as stop:
        return stop.exit_code
    except (KeyboardInterrupt, typer.Abort):
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        _give_up_stdout()
        return EXIT_PIPE_CLOSED
    except _UsageFamily as error:
        _explain_usage(error)
        return EXIT_BAD_INPUT
    except BaseExceptionGroup as group:
        return _exit_code_of_group(group)
    except Exception as error:  # noqa: BLE001  -- the last boundary: nothing above prints it
        return _exit_code_of(error)
    return result if isinstance(result, int) else EXIT_DONE


def print_error(message: str) -> None:
    """Say `swarm: error: message` on stderr, on one line whatever the message holds; with `--log-json` as an object."""
    tell_error(" ".join(message.split()))


def _exit_code_of(error: BaseException) -> int:
    """Explain `error` and return its exit code."""
    if isinstance(error, InvariantError) or not isinstance(error, SwarmError):
        tell_error(f"this is a bug in swarm, please report it with the traceback: {error!r}", bug=error)
        return EXIT_FAILED
    print_error(str(error))
    return EXIT_FAILED if isinstance(error, ProofError | CommandFailed) else EXIT_BAD_INPUT


def _exit_code_of_group(group: BaseExceptionGroup[BaseException]) -> int:
    """Answer for what task groups raise: a bug in it outweighs a mistake, a mistake outweighs Ctrl-C."""
    leaves = list(_leaves(group))
    mistakes = [
        leaf for leaf in leaves if isinstance(leaf, SwarmError) and not isinstance(leaf, InvariantError)
    ]
    interrupts = [leaf for leaf in leaves if isinstance(leaf, KeyboardInterrupt)]
    if len(mistakes) + len(interrupts) < len(leaves):
        return _exit_code_of(group if len(leaves) > 1 else leaves[0])
    return _exit_code_of(mistakes[0]) if mistakes else EXIT_INTERRUPTED


def _leaves(group: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error


def _explain_usage(error: Any) -> None:
    """Print click's own words for a wrong option or argument, and where the right ones are listed."""
    context = getattr(error, "ctx", None)
    asked = f" (see `{context.command_path} --help`)" if context is not None else ""
    print_error(f"{_in_our_words(error.format_message()).rstrip('.')}{asked}")


_LIBRARY_WORDS: Final = (
    (re.compile(r"Input should be a valid integer.*"), r"must be a whole number"),
    (re.compile(r"Input should be a valid number.*"), r"must be a number"),
    (re.compile(r"Input should be a finite number.*"), r"must be a number"),
    (re.compile(r"Input should be greater than or equal to (\S+)"), r"must be \1 or more"),
    (re.compile(r"Input should be less than or equal to (\S+)"), r"must be \1 at most"),
    (re.compile(r"Value error, (.*)"), r"\1"),
)
"""What stands beneath Typer judges values in words of programmers."""


def _in_our_words(message: str) -> str:
    for pattern, words in _LIBRARY_WORDS:
        message = pattern.sub(words, message)
    return message


def _give_up_stdout() -> None:
    """Let what is still buffered go nowhere: the interpreter would complain about it when it ends."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
