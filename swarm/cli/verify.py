"""`swarm verify`: what a proof proves, checked offline with the genesis file alone."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from swarm.apps.decisions.rules import Outcome, ballot_in_words
from swarm.apps.verify import Entry, read_verified
from swarm.cli.files import JsonOption, load_genesis, read_file, words_beside, write_json
from swarm.primitives.errors import ProofError
from swarm.primitives.limits import PROOF_BYTES_MAX
from swarm.wire.genesis import Genesis
from swarm.wire.proof import MAGIC, VerifiedLeaf
from swarm.wire.proof import verify as verify_leaf


def verify(
    proof: Annotated[Path, typer.Argument(metavar="PROOF", show_default=False, help="The proof file.")],
    *,
    genesis: Annotated[Path, typer.Option("--genesis", help="The genesis file of the swarm.")],
    json: JsonOption = None,
) -> None:
    """Check a proof offline and say in words what it proves, by whom, and what it would take to forge it.

    Exit code 1, with the reason, for a proof that must not be believed.
    """
    members = load_genesis(genesis)
    data = read_file(proof, PROOF_BYTES_MAX + len(MAGIC))
    try:
        leaf = verify_leaf(data, members)
        content = read_verified(leaf, members)
    except ProofError as error:
        if json is not None:
            write_json({"verified": False, "reason": str(error)}, json)
        raise ProofError(f"{proof}: proves nothing: {error}") from None
    print("\n".join(describe_proof(leaf, content, members)), file=words_beside(json))
    if json is not None:
        write_json(report_proof(leaf, content, members), json)


def describe_proof(leaf: VerifiedLeaf, content: Entry | Outcome, genesis: Genesis) -> list[str]:
    """Return the lines that say what a verified proof proves."""
    n, needed = len(genesis.voters), genesis.budget.r + 1
    lines = [
        f"PROVED for swarm {genesis.swarm} ({genesis.id[:4].hex()}):",
        f"  {content.in_words()}",
    ]
    if isinstance(content, Outcome):
        lines += [f"    {who}: {_ballot(ballot, content)}" for who, ballot in content.ballots]
    lines += [
        f"  It is entry {leaf.position} of the log (first is 0), of {leaf.log_size} at height {leaf.height}.",
        f"Signed by {count_words(len(leaf.signers), 'voter')}: {', '.join(leaf.signers)}.",
    ]
    if needed == 1:
        lines.append(
            f"To forge it, one would have to corrupt 1 of the {count_words(n, 'voter')} (r + 1 = 1): r is 0 here."
        )
    else:
        lines.append(
            f"At least one of them is honest as long as at most r = {needed - 1} of the {n} voters lie:"
            f" to forge it, one would have to corrupt {needed} of them (r + 1 = {needed})."
        )
    return lines


def report_proof(leaf: VerifiedLeaf, content: Entry | Outcome, genesis: Genesis) -> dict[str, Any]:
    """Return what `--json` writes about a verified proof; digests and bytes are hexadecimal."""
    return {
        "verified": True,
        "swarm": genesis.swarm,
        "swarm_id": genesis.id.hex(),
        "position": leaf.position,
        "height": leaf.height,
        "log_size": leaf.log_size,
        "log_root": leaf.log_root.hex(),
        "signers": list(leaf.signers),
        "corrupt_to_forge": genesis.budget.r + 1,
        "voters": len(genesis.voters),
        "proves": _report_outcome(content) if isinstance(content, Outcome) else _report_entry(content),
    }


def _report_outcome(outcome: Outcome) -> dict[str, Any]:
    return {
        "kind": "outcome",
        "decision": outcome.decision.hex(),
        "subject": outcome.subject,
        "rule": outcome.rule,
        "outcome": _plain(outcome.value, outcome),
        "words": outcome.value_in_words(),
        "scale": None if outcome.options else outcome.scale,
        "reason": outcome.reason,
        "margin": outcome.margin,
        "ballots": {who: _plain(ballot, outcome) for who, ballot in outcome.ballots},
        "eligible": outcome.eligible,
        "opened_by": outcome.opened_by,
        "opened_height": outcome.opened_height,
        "closed_height": outcome.closed_height,
    }


def _plain(value: int | None, outcome: Outcome) -> str | float | None:
    """Return an outcome's value or a ballot as in result.json: option, number in plain units, None for none."""
    if value is None:
        return None
    return outcome.options[value] if outcome.options else value / 10**outcome.scale


def _report_entry(entry: Entry) -> dict[str, Any]:
    return {
        "kind": entry.kind,
        "submission": entry.submission.hex(),
        "origin": entry.origin,
        "commands": [{"app": app, "body": body.hex()} for app, body in entry.commands],
        "height": entry.height,
        "command": entry.command,
        "app": entry.app,
        "body": entry.body.hex(),
        "reason": entry.reason,
    }


def _ballot(ballot: int | None, outcome: Outcome) -> str:
    return "abstained" if ballot is None else ballot_in_words(ballot, outcome.options, outcome.scale)


def count_words(number: int, word: str, words: str = "") -> str:
    """Return `1 voter` or `3 voters`; `words` is a plural that is not made with an s."""
    return f"{number} {word if number == 1 else words or f'{word}s'}"
