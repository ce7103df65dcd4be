"""Every file in configs/scenarios runs in the simulator and holds what it expects, or is refused by name there."""

from __future__ import annotations

from pathlib import Path

import pytest

from swarm.lab.scenario.parse import load_scenario
from swarm.lab.scenario.result import exit_code
from swarm.lab.scenario.runner import run_loaded, run_scenario
from swarm.primitives.errors import ConfigError

FILES = sorted(
    path for path in Path("configs/scenarios").glob("*.yaml") if not path.name.startswith("firmware-")
)
"""Those of firmware run once, in tests/lab/firmware."""

REAL_WORLD = {"this-machine.yaml"}


@pytest.mark.parametrize("path", FILES, ids=[path.name for path in FILES])
def test_scenario_holds(path: Path) -> None:
    scenario = load_scenario(path)
    if path.name in REAL_WORLD:
        with pytest.raises(ConfigError, match="not supported by engine 'sim'"):
            run_loaded(scenario, engine="sim")
        return
    result = run_loaded(scenario, engine="sim")
    assert [row for row in result.expectations if not row.held] == []
    assert exit_code(result) == 0


def test_output_folder_holds_result_genesis_proofs_and_trace(tmp_path: Path) -> None:
    from swarm.apps.verify import verify_proof
    from swarm.lab.scenario.result import result_from_json
    from swarm.primitives.errors import ProofError
    from swarm.wire.genesis import parse_genesis

    out = tmp_path / "run"
    result = run_scenario("configs/scenarios/greenhouse.yaml", out=out)

    assert result_from_json((out / "result.json").read_bytes(), "result.json") == result
    genesis = parse_genesis((out / "genesis.json").read_text(encoding="utf-8"))
    proved = [row for row in result.decisions if row.proof]
    assert len(proved) >= len(result.decisions) - 1
    proof = (out / str(proved[0].proof)).read_bytes()
    outcome = verify_proof(proof, genesis)
    assert getattr(outcome, "subject", None) == "temperature"
    with pytest.raises(ProofError):
        verify_proof(proof[:-1] + bytes([proof[-1] ^ 1]), genesis)
    lines = (out / "trace" / "events.jsonl").read_text(encoding="utf-8").splitlines()
    assert len(lines) > 100
