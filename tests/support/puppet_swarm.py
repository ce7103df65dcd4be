"""A running swarm whose firmware a test plays (`puppets`): an embedded broker, a folder of `swarm init`, releases."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from swarm.transport.broker import EmbeddedBroker
from tests.support.commands import ROOT, Done, swarm


@dataclass
class PuppetSwarm:
    """Its folder, and the process of all its agents."""

    folder: Path
    process: subprocess.Popen[str]

    @property
    def fleet(self) -> Path:
        return self.folder / "fleet"

    @property
    def operator(self) -> Path:
        return self.fleet / "operator" / "operator.yaml"

    @property
    def genesis(self) -> Path:
        return self.fleet / "genesis.json"

    def key(self, number: int) -> Path:
        return self.fleet / "release" / f"release-{number}.key"

    def tell(self, line: str) -> None:
        """Change how the puppets play."""
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def firmware(self, *words: object) -> Done:
        """Run `swarm firmware WORDS --as OPERATOR`."""
        return swarm("firmware", *words, "--as", self.operator)

    def pack(self, number: int, *words: object, keys: tuple[int, ...] = (0, 1), text: str = "") -> Path:
        """Make a release file of a little program, signed by these keys."""
        program = self.folder / f"program-{number}{text}"
        program.mkdir(exist_ok=True)
        (program / "__main__.py").write_text(f"print({number}, {text!r})\n")
        out = self.folder / f"{number}{text}.swfw"
        out.unlink(missing_ok=True)
        held = [self.key(key) for key in keys if self.key(key).exists()]
        signing = [word for path in held for word in ("--key", path)]
        done = swarm(
            "firmware", "pack", program, "--genesis", self.genesis, "--number", number,
            "--version", f"{number}.0", "--out", out, *signing, *words,
        )  # fmt: skip
        assert done.code == 0, done.err
        return out

    def release(self, number: int, *words: object) -> None:
        """Pack, propose and approve a release."""
        proposed = self.firmware("propose", self.pack(number, *words))
        assert proposed.code == 0, proposed.err
        approved = self.firmware("approve", number)
        assert approved.code == 0, approved.err


@contextmanager
def puppet_swarm(
    folder: Path, *, voters: int = 4, observers: int = 0, keys: str = "2/3", budget: str = "balanced"
) -> Iterator[PuppetSwarm]:
    """Make a swarm in `folder` and run all its agents as puppets in one process."""
    with EmbeddedBroker() as broker:
        done = swarm(
            "init", folder / "fleet", "--devices", voters, "--observers", observers, "--firmware", keys,
            "--broker", broker.url, "--budget", budget,
        )  # fmt: skip
        assert done.code == 0, done.err
        names = [f"dev-{number}" for number in range(voters)] + [f"obs-{n}" for n in range(observers)]
        files = [str(folder / "fleet" / name / "agent.yaml") for name in names]
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.puppets", *files],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == "up\n"
            yield PuppetSwarm(folder, process)
        finally:
            process.stdin.close()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            process.stdout.close()
