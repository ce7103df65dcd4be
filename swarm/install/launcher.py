"""The parent of the agent: starts a slot, watches it, counts its attempts, takes it back. Never part of an image.

`pack_launcher` makes one file of this module and the three it needs; `python3 -I launch.pyz --root DIR -- ARGUMENTS`
runs it with nothing but the standard library. It starts a child only after the last one has ended, and holds a lock
that each child inherits: while any agent lives, even one whose launcher was killed, no second launcher starts another.
Two processes with one store would be two devices with one key.

The child is told in its environment which slot it is and where its lifeline is. Over that pipe it says `.` (my event
loop and my consensus tick advance) and `+` (healthy). Silence ends it; so does the trial timer. Neither can be
extended by the child. What counts as a failure is decided in `selection`. Rules: FIRMWARE section 6.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import select
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from swarm.install.filesystem import RealFileSystem
from swarm.install.records import Confirmed, read_record
from swarm.install.selection import (
    STARTS_WITHOUT_HEALTH_MAX,
    TRIAL_TIMER,
    Choice,
    NothingBootableError,
    boot_folder,
    choose_slot,
    note_health,
    revert_trial,
    slot_folder,
)

RESTART_CODE: Final = 75
"""The child asks for the next start, at once."""
REFUSED_CODE: Final = 2
"""The child, or this program, refuses something that a restart does not mend."""
LOCKED_CODE: Final = 3
"""Another launcher, or an agent it left behind, holds this root."""
NOTHING_CODE: Final = 4
"""No slot can be started; a person has to bring a release."""

BEAT: Final = b"."
HEALTHY: Final = b"+"

ENV_SLOT: Final = "SWARM_SLOT"
ENV_ROOT: Final = "SWARM_INSTALL_ROOT"
ENV_LIFELINE: Final = "SWARM_LIFELINE_FD"
ENV_BOOTS: Final = "SWARM_BOOTS"

_CONFIRMATION_POLL_S: Final = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Times:
    """`silence_ms` without a beat ends a child; `grace_ms` from SIGTERM to SIGKILL; `pause_ms` before a restart."""

    silence_ms: int = 30_000
    grace_ms: int = 10_000
    pause_ms: int = 2_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a child ended: exit code (negative: by signal), whether it overstayed its trial, was ever healthy."""

    code: int
    overstayed: bool
    was_healthy: bool


class RootLock:
    """One launcher a root, as long as it or a child of it lives."""

    def __init__(self, root: str) -> None:
        """Take the lock or raise `BlockingIOError`; a killed holder's lock is free once its child has ended too."""
        self.fd = os.open(f"{boot_folder(root)}/lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            # The lock belongs to the open file, which the child inherits.
            fcntl.flock(self.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self.fd)
            raise

    def close(self) -> None:
        """Let go, if no child holds it still."""
        os.close(self.fd)


class Launcher:
    """Runs slots below `root` one after the other until it is told to end."""

    def __init__(self, root: str, arguments: list[str], *, lock_fd: int, times: Times | None = None) -> None:
        """Prepare; `arguments` go to every child, `lock_fd` is inherited by it."""
        self._disk = RealFileSystem()
        self._root = root
        self._arguments = arguments
        self._lock_fd = lock_fd
        self._times = times or Times()
        self._ending: int | None = None
        self._wake_read, self._wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def run(self) -> int:
        """Return the exit code of this program. Raises `NothingBootableError`, `OSError`."""
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._on_end)
        signal.signal(signal.SIGCHLD, _on_child)
        signal.set_wakeup_fd(self._wake_write, warn_on_full_buffer=False)
        unhealthy = 0
        while True:
            choice = choose_slot(self._disk, self._root)
            ended = self._live(choice)
            if self._is_ending():
                return max(0, ended.code)
            if ended.overstayed:
                # A confirmation that was durable when the child ended has won the race against the timer.
                revert_trial(self._disk, self._root, TRIAL_TIMER)
            if choice.trial:
                continue
            unhealthy = 0 if ended.was_healthy else unhealthy + 1
            if ended.code == 0:
                return 0
            # It refuses again and again, and `choose_slot` had no slot to fall back to.
            if ended.code == REFUSED_CODE and unhealthy > STARTS_WITHOUT_HEALTH_MAX:
                return REFUSED_CODE
            if ended.code != RESTART_CODE:
                self._pause()
            if self._is_ending():
                return 0

    # ------------------------------------------------------------------------- one child

    def _live(self, choice: Choice) -> Ended:
        """Run one child until it has ended, with all that it started in its process group."""
        read_end, write_end = os.pipe2(os.O_CLOEXEC)
        try:
            child = subprocess.Popen(
                self._command(choice),
                env=self._environment(choice, write_end),
                pass_fds=(write_end, self._lock_fd),
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        finally:
            os.close(write_end)
        about = f"slot {choice.slot}" + (f", trial, attempt {choice.attempts}" if choice.trial else "")
        _say(f"{about}, process {child.pid}")
        _notify(f"READY=1\nWATCHDOG=1\nMAINPID={os.getpid()}\nSTATUS={about}")
        overstayed = was_healthy = False
        try:
            overstayed, was_healthy = self._watch(child, choice, read_end)
        finally:
            self._end(child)
            os.close(read_end)
        return Ended(code=child.wait(), overstayed=overstayed, was_healthy=was_healthy)

    def _watch(self, child: subprocess.Popen[bytes], choice: Choice, lifeline: int) -> tuple[bool, bool]:
        """Return (it overstayed its trial, it was healthy) when the child has ended or has to."""
        started = heard = time.monotonic()
        in_trial = choice.trial
        was_healthy = False
        while not _has_ended(child) and not self._is_ending():
            silent_at = heard + self._times.silence_ms / 1000
            late_at = started + choice.trial_ms / 1000 if in_trial else silent_at
            now = time.monotonic()
            if now >= min(silent_at, late_at):
                _say(f"process {child.pid} " + ("overstays its trial" if now >= late_at else "is silent"))
                return in_trial and now >= late_at, was_healthy
            wait = min(silent_at, late_at) - now
            said = self._listen(lifeline, min(wait, _CONFIRMATION_POLL_S) if in_trial else wait)
            if said is None:
                # Without its lifeline it can only be silent, or already be ending.
                lifeline = -1
                continue
            if said:
                heard = time.monotonic()
                _notify("WATCHDOG=1")
            was_healthy = was_healthy or HEALTHY in said
            in_trial = in_trial and not self._is_confirmed(choice)
            if HEALTHY in said and not in_trial:
                note_health(self._disk, self._root)
        return False, was_healthy

    def _listen(self, lifeline: int, wait_s: float) -> bytes | None:
        """Return what the child said within `wait_s`, None when it closed its lifeline."""
        watched = [self._wake_read] if lifeline < 0 else [self._wake_read, lifeline]
        ready, _, _ = select.select(watched, [], [], max(0.0, wait_s))
        if self._wake_read in ready:
            with suppress(BlockingIOError):
                os.read(self._wake_read, 4096)
        if lifeline in ready:
            return os.read(lifeline, 4096) or None
        return b""

    def _end(self, child: subprocess.Popen[bytes]) -> None:
        """End the child and its process group: ask, wait, kill. Returns only when it is gone."""
        if not _has_ended(child):
            # Not `send_signal`: that would wait for the child, and its number could become another's.
            os.kill(child.pid, self._ending or signal.SIGTERM)
            until = time.monotonic() + self._times.grace_ms / 1000
            while not _has_ended(child) and (left := until - time.monotonic()) > 0:
                _notify("WATCHDOG=1")
                self._listen(-1, min(left, 1.0))
        # The child is not waited for yet, so its group's number still belongs to it and to nobody else.
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()

    def _is_confirmed(self, choice: Choice) -> bool:
        confirmed = read_record(self._disk, boot_folder(self._root), Confirmed)
        return confirmed is not None and confirmed.permit == choice.permit and not confirmed.reason

    def _command(self, choice: Choice) -> list[str]:
        # -B: byte code written into the slot would change its digest.
        return [sys.executable, "-I", "-B", slot_folder(self._root, choice.slot), *self._arguments]

    def _environment(self, choice: Choice, lifeline: int) -> dict[str, str]:
        # The watchdog is the launcher's to feed: with the socket in hand the child could feed it forever.
        kept = {key: value for key, value in os.environ.items() if key not in _SYSTEMD}
        ours = {
            ENV_SLOT: choice.slot,
            ENV_ROOT: self._root,
            ENV_LIFELINE: str(lifeline),
            ENV_BOOTS: str(choice.boots),
        }
        return kept | ours

    # ------------------------------------------------------------------------- signals

    def _is_ending(self) -> bool:
        return self._ending is not None

    def _on_end(self, number: int, _frame: object) -> None:
        self._ending = number

    def _pause(self) -> None:
        """Wait before a restart, feeding the watchdog: a slow restart is not a hang."""
        until = time.monotonic() + self._times.pause_ms / 1000
        while not self._is_ending() and (left := until - time.monotonic()) > 0:
            _notify("WATCHDOG=1")
            self._listen(-1, left)


# ----------------------------------------------------------------------------- the program


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """Return the command line's root, times and arguments for the agent; a wrong one ends the program with 2."""
    usual = Times()
    parser = argparse.ArgumentParser(prog="launch", description="Start, watch and take back a Swarm agent.")
    parser.add_argument("--root", required=True, help="folder with slots/, boot/ and current")
    parser.add_argument("--silence-ms", type=int, default=usual.silence_ms)
    parser.add_argument("--grace-ms", type=int, default=usual.grace_ms)
    parser.add_argument("--pause-ms", type=int, default=usual.pause_ms)
    parser.add_argument("arguments", nargs="*", help="after --: what the agent gets")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Run the launcher from a command line and return its exit code; every refusal is one line on stderr."""
    given = parse(arguments)
    times = Times(silence_ms=given.silence_ms, grace_ms=given.grace_ms, pause_ms=given.pause_ms)
    root = str(Path(given.root).absolute())
    try:
        lock = RootLock(root)
    except BlockingIOError:
        _say(f"another launcher, or an agent it left behind, holds {root}; two of them would be two devices")
        return LOCKED_CODE
    except OSError as error:
        _say(f"{root} is no root of slots: {error.strerror}")
        return REFUSED_CODE
    try:
        return Launcher(root, given.arguments, lock_fd=lock.fd, times=times).run()
    except NothingBootableError as error:
        _say(f"nothing to start below {root}: {error}")
        return NOTHING_CODE
    except OSError as error:
        _say(f"cannot go on below {root}: {error.filename or ''} {error.strerror}")
        return 1
    finally:
        lock.close()


# ----------------------------------------------------------------------------- parts

_SYSTEMD: Final = frozenset({"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"})


def _on_child(_number: int, _frame: object) -> None:
    """Only there so that the end of a child wakes `select`."""


def _has_ended(child: subprocess.Popen[bytes]) -> bool:
    """Answer whether the child has ended, without letting go of its number."""
    return os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _say(line: str) -> None:
    sys.stderr.write(f"launch: {line}\n")
    sys.stderr.flush()


def _notify(text: str) -> None:
    """Tell systemd, as sd_notify(3) does; nothing happens without its socket."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    # A supervisor that does not listen must not end the agent.
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as talk:
        talk.connect(address)
        talk.sendall(text.encode())


if __name__ == "__main__":
    sys.exit(main())
