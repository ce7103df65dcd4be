"""`swarm decide`: open a decision, wait for the devices, print the proved outcome."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from swarm.agent.client.connect import Client
from swarm.agent.client.results import DecidedOutcome, Progress
from swarm.apps.decisions.rules import Outcome, ballot_in_words
from swarm.cli.files import JsonOption, words_beside, write_json
from swarm.cli.light import (
    AsOption,
    ProofOption,
    TimeoutOption,
    check_proof_target,
    read_timeout_s,
    report_content,
    run_client,
    write_proof,
)
from swarm.cli.verify import count_words
from swarm.primitives.errors import ConfigError
from swarm.primitives.quorum import Budget


def decide(
    subject: Annotated[str, typer.Argument(metavar="SUBJECT", show_default=False, help="What is asked.")],
    *,
    as_: AsOption,
    rule: Annotated[
        str, typer.Option("--rule", show_default=False, help="majority (of options) or median (of numbers).")
    ],
    options: Annotated[
        str, typer.Option("--options", metavar="a,b,c", help="Names to choose from; without them, a number.")
    ] = "",
    scale: Annotated[int, typer.Option("--scale", help="Decimal places of a number.")] = 0,
    eligible: Annotated[
        str, typer.Option("--eligible", metavar="voters|all|IDS", help="Who ballots; ids with commas.")
    ] = "voters",
    deadline: Annotated[
        str, typer.Option("--deadline", metavar="DURATION", help="When it closes at the latest.")
    ] = "5s",
    value: Annotated[
        str | None, typer.Option("--value", help="Your own ballot, where you are eligible.")
    ] = None,
    timeout: TimeoutOption = "60s",
    proof: ProofOption = None,
    json: JsonOption = None,
) -> None:
    """Open a decision, wait for its end, and print outcome, ballots and margin, all proved.

    Exit code 1, saying what was missing, when no proof came in time.
    """
    out = words_beside(json)
    names = split_names(options, "--options")
    if names and scale:
        raise ConfigError("a decision has options or a scale, not both", where="--scale")
    timeout_s = read_timeout_s(timeout)
    check_proof_target(proof)
    who = eligible if eligible in {"voters", "all"} else split_names(eligible, "--eligible")

    def on_progress(step: Progress) -> None:
        if step.step == "signed":
            print(f"decision {step.id.hex()}", file=out, flush=True)

    async def work(client: Client) -> tuple[DecidedOutcome, Budget]:
        decided = await client.decide(
            subject,
            rule=rule,
            options=names,
            scale=scale,
            eligible=who,
            deadline=deadline,
            value=value,
            timeout=timeout_s,
            on_progress=on_progress,
        )
        return decided, client.genesis.budget

    decided, budget = run_client(as_, work)
    if proof is not None:
        write_proof(decided.proof, proof)
    print("\n".join(describe_decided(decided, budget, proof)), file=out)
    if json is not None:
        write_json(
            {
                **report_content(decided.outcome),
                "position": decided.position,
                "height": decided.height,
                "ballot_counted": decided.ballot_counted,
                "proof": decided.proof.hex(),
            },
            json,
        )


def describe_decided(decided: DecidedOutcome, budget: Budget, proof: Path | None) -> list[str]:
    """Return the lines about an outcome. The two thresholds are named apart: they protect different things."""
    outcome = decided.outcome
    lines = [outcome.in_words()]
    lines += [f"  {who}: {_ballot(ballot, outcome)}" for who, ballot in outcome.ballots]
    if decided.ballot_counted is False:
        lines.append("your own ballot came after the closing and does not count")
    if outcome.margin is not None:
        lines.append(f"margin of this outcome: {count_words(outcome.margin, 'lying ballot')}")
    lines.append(f"the log itself: {budget.in_words()}")
    lines.append(f"entry {decided.position} of the log, proved at height {decided.height}")
    if proof is not None:
        lines.append(
            f"proof written to {proof}; anybody can check it with `swarm verify` and the genesis file"
        )
    return lines


def split_names(text: str, where: str) -> tuple[str, ...]:
    """Return the names in `a,b,c`; an empty one between two commas is a slip and refused."""
    if not text:
        return ()
    names = tuple(part.strip() for part in text.split(","))
    if not all(names):
        raise ConfigError(f"{text!r} has an empty name", where=where)
    return names


def _ballot(ballot: int | None, outcome: Outcome) -> str:
    return "abstained" if ballot is None else ballot_in_words(ballot, outcome.options, outcome.scale)
