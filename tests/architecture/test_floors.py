"""The floors of ARCHITECTURE.md hold, and each contract that says so finds what it forbids."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import swarm

ROOT = Path(__file__).resolve().parents[2]

LINT = "from importlinter.cli import lint_imports_command; lint_imports_command()"

# (contract, file that is made or extended, line planted in it, module that the report must name)
PLANTS = [
    ("floors", "wire/planted.py", "import swarm.device", "swarm.wire.planted"),
    ("floors", "consensus/planted.py", "import swarm.apps", "swarm.consensus.planted"),
    ("floors", "storage/planted.py", "import swarm.transport", "swarm.storage.planted"),
    ("floors", "behaviours/planted.py", "import swarm.storage", "swarm.behaviours.planted"),
    ("floors", "primitives/planted.py", "import swarm.crypto", "swarm.primitives.planted"),
    ("floors", "device/planted.py", "def late() -> None:\n    import swarm.agent\n", "swarm.device.planted"),
    ("floors", "attic/__init__.py", "", "swarm.attic"),
    ("pure", "primitives/planted.py", "import random", "swarm.primitives.planted -> random"),
    ("pure", "crypto/planted.py", "from secrets import token_bytes", "swarm.crypto.planted -> secrets"),
    ("pure", "wire/planted.py", "import time", "swarm.wire.planted -> time"),
    ("pure", "consensus/planted.py", "import asyncio", "swarm.consensus.planted -> asyncio"),
    ("pure", "apps/planted.py", "from os import environ", "swarm.apps.planted -> os"),
    ("pure", "apps/decisions/planted.py", "import numpy as np", "swarm.apps.decisions.planted -> numpy"),
    ("lab", "agent/planted.py", "from swarm.lab import sim", "swarm.agent.planted"),
    ("lab", "behaviours/planted.py", "import swarm.lab.sim", "swarm.behaviours.planted"),
    ("simulated-device", "install/planted.py", "import firmware_sim.flash", "swarm.install.planted"),
    ("simulated-device", "cli/planted.py", "from firmware_sim import board", "swarm.cli.planted"),
    ("device-alone", "../firmware_sim/planted.py", "import swarm.crypto", "firmware_sim.planted"),
    ("device-alone", "../firmware_sim/planted.py", "from swarm import connect", "firmware_sim.planted"),
    ("broker-behind-port", "agent/planted.py", "import aiomqtt", "swarm.agent.planted -> aiomqtt"),
    ("broker-behind-port", "device/planted.py", "import iotcore", "swarm.device.planted -> iotcore"),
    ("public-names", "device/planted.py", "from swarm import connect", "swarm.device.planted -> swarm"),
    ("lazy-root", "__init__.py", "from swarm.agent import client", "swarm -> swarm.agent"),
]


def lint(tree: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Run import-linter on the packages in `tree`, in a process of its own: it imports by path."""
    return subprocess.run(
        [sys.executable, "-c", LINT, "--no-cache", "--no-logo", *options],
        cwd=tree,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Copy the packages and their contracts, to plant something in."""
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for package in ("swarm", "firmware_sim"):
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def contract_ids() -> list[str]:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    return [contract["id"] for contract in settings["tool"]["importlinter"]["contracts"]]


@pytest.mark.parametrize("contract", contract_ids())
def test_contract_is_kept(contract: str) -> None:
    done = lint(ROOT, "--contract", contract)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 kept, 0 broken" in done.stdout


def test_every_contract_has_a_planted_violation() -> None:
    assert {contract for contract, *_ in PLANTS} == set(contract_ids())


@pytest.mark.parametrize(("contract", "file", "line", "reported"), PLANTS)
def test_a_planted_violation_is_found(tree: Path, contract: str, file: str, line: str, reported: str) -> None:
    path = tree / "swarm" / file
    path.parent.mkdir(exist_ok=True)
    before = path.read_text(encoding="utf-8") if path.exists() else ""
    path.write_text(before + line + "\n", encoding="utf-8")
    done = lint(tree, "--contract", contract)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "0 kept, 1 broken" in done.stdout
    assert reported in done.stdout


def test_a_detour_over_a_lower_floor_is_found(tree: Path) -> None:
    (tree / "swarm/wire/planted.py").write_text("import time\n", encoding="utf-8")
    (tree / "swarm/consensus/planted.py").write_text("import swarm.wire.planted\n", encoding="utf-8")
    done = lint(tree, "--contract", "pure")
    assert done.returncode == 1
    assert "swarm.consensus is not allowed to import time" in done.stdout


# ----------------------------------------------------------------------------- the public names

PUBLIC = {
    "Application",
    "Behaviour",
    "__version__",
    "connect",
    "parse_genesis",
    "run_scenario",
    "verify_proof",
}


def test_import_swarm_loads_no_floor() -> None:
    code = "import sys, swarm; dir(swarm); sys.exit(any(name.startswith('swarm.') for name in sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, timeout=60, check=False).returncode == 0


def test_public_names_are_the_agreed_ones() -> None:
    assert set(swarm.__all__) == PUBLIC
    assert set(dir(swarm)) >= PUBLIC


def test_version_is_that_of_the_distribution() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert swarm.__version__ == settings["project"]["version"]


def test_any_other_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'teleport'"):
        swarm.teleport  # noqa: B018  -- the access is what is tested


@pytest.mark.parametrize("name", sorted(PUBLIC - {"__version__"}))
def test_public_name_loads(name: str) -> None:
    value = getattr(swarm, name)
    assert callable(value)
    assert getattr(swarm, name) is value
