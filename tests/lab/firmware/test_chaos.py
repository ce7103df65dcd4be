"""Random rollouts in which everything fails, then peace: a few seeds here, two hundred by the command.

`python -m swarm.lab.scenario.chaos --seeds 0..199`; more here with `SWARM_SEEDS=50 pytest tests/lab/firmware`.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from swarm.lab.scenario import chaos
from swarm.lab.scenario.parse import load_scenario, parse_scenario
from swarm.lab.scenario.schema import check_engine

SEEDS = min(int(os.environ.get("SWARM_SEEDS", "4")), 200)


@pytest.mark.parametrize("seed", range(SEEDS))
def test_seed(seed: int) -> None:
    outcome = chaos.run_seed(seed)
    assert not outcome.broken, outcome.line()


def test_two_hundred_scenarios_are_legal_and_differ() -> None:
    texts = [chaos.chaos_scenario(seed) for seed in range(200)]
    assert len(set(texts)) == 200
    for seed, text in enumerate(texts):
        check_engine(parse_scenario(text, f"seed {seed}"), "sim")
    assert chaos.chaos_scenario(3) == texts[3], "a function of the seed"
    for word in ("power_cut", "partition", "lying-canary", "during: swap", "rollback", "brick"):
        assert sum(word in text for text in texts) > 10, word


def test_command_names_what_it_cannot_read(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        chaos.main(["--seeds", "few"])
    assert ended.value.code == 2
    assert "--seeds 'few' is neither A..B nor a number" in capsys.readouterr().err


def test_command_writes_a_scenario_and_says_what_broke(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "seed.yaml"
    assert chaos.main(["--seeds", "7", "--write", str(file)]) == 0
    assert load_scenario(file).seed == 7

    def fake(seed: int) -> chaos.Outcome:
        broken = ("rollout-ends violated: (9)",) if seed == 5 else ()
        return chaos.Outcome(seed=seed, broken=broken, state="completed", running=3, wall_s=0.1)

    monkeypatch.setattr(chaos, "run_seed", fake)
    assert chaos.main(["--seeds", "4..6", "--workers", "1"]) == 1
    out = capsys.readouterr().out
    assert "seed 5: completed, 3 devices updated, 0.1 s, VIOLATED rollout-ends violated: (9)" in out
    assert "again: python -m swarm.lab.scenario.chaos --seeds 5" in out
    assert "3 seeds, 1 with a violation" in out
