"""The command line under test: in this process, or in one of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from typer.testing import CliRunner

from swarm.cli.main import app

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 120.0


@dataclass(frozen=True)
class Done:
    """A command that has ended."""

    code: int
    out: str
    err: str

    @property
    def error_line(self) -> str:
        """What stands on stderr, which must be exactly one line of ours."""
        assert self.err.startswith("swarm: error: "), self.err
        assert self.err.count("\n") == 1, self.err
        return self.err.removeprefix("swarm: error: ").rstrip("\n")


def swarm(*words: object) -> Done:
    """Run `swarm WORDS` inside this process."""
    result = CliRunner().invoke(app, [str(word) for word in words], prog_name="swarm")
    return Done(result.exit_code, result.stdout, result.stderr)


def command_line(*words: object) -> list[str]:
    """Return the argument list that runs `swarm WORDS`; for a process with `ROOT` as its working directory."""
    return [sys.executable, "-m", "swarm.cli.main", *(str(word) for word in words)]


def swarm_process(*words: object) -> Done:
    """Run `swarm WORDS` in a process of its own, to the end."""
    done = subprocess.run(
        command_line(*words), cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )
    return Done(done.returncode, done.stdout, done.stderr)


def modules_after(code: str) -> set[str]:
    """Return the names of all modules that a fresh interpreter holds after running `code`."""
    script = f"import json, sys\n{code}\nprint(); print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.splitlines()[-1]))
