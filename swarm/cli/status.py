"""`swarm status`: what every voter says about itself, and whether they are enough."""

from __future__ import annotations

from typing import Any

from swarm.agent.client.connect import Client
from swarm.agent.client.results import MemberStatus, SwarmStatus
from swarm.cli.boundary import CommandFailed
from swarm.cli.files import JsonOption, words_beside, write_json
from swarm.cli.light import AsOption, TimeoutOption, read_timeout_s, run_client


def status(*, as_: AsOption, timeout: TimeoutOption = "2s", json: JsonOption = None) -> None:
    """Ask every voter about itself. What each says is its own claim: nothing here is proved.

    Exit code 1 when fewer voters answer than make a quorum.
    """
    timeout_s = read_timeout_s(timeout)
    trouble: list[str] = []

    async def work(client: Client) -> SwarmStatus:
        answered = await client.status(timeout=timeout_s)
        if not answered.voters_up and (said := client.trouble()):
            trouble.append(said)
        return answered

    answered = run_client(as_, work, is_patient=False)
    print("\n".join(describe_status(answered)), file=words_beside(json))
    if json is not None:
        write_json(report_status(answered), json)
    if not answered.has_quorum:
        said = (
            trouble[0]
            if trouble
            else f"{answered.voters_up} voters answered, a quorum is {answered.budget.q}"
        )
        raise CommandFailed(f"no quorum: {said}")


def describe_status(answered: SwarmStatus) -> list[str]:
    """Return the lines of the table, each marked as the claim it is."""
    budget = answered.budget
    lines = [
        f"swarm {answered.swarm}: {answered.voters_up} of {budget.n} voters answer, a quorum is {budget.q}",
        f"  {budget.in_words()}",
        f"  {_silence(answered)}",
        "what each voter claims about itself:",
    ]
    rows: list[tuple[str, ...]] = [
        ("voter", "view", "final", "height", "entries", "pending", "hears", "version")
    ]
    rows += [_row(member) for member in answered.members]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines += [
        "  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    return lines


def report_status(answered: SwarmStatus) -> dict[str, Any]:
    """Return what `--json` writes; `claims` are the devices' own words."""
    budget = answered.budget
    return {
        "swarm": answered.swarm,
        "budget": {"n": budget.n, "u": budget.u, "r": budget.r, "q": budget.q},
        "voters_up": answered.voters_up,
        "quorum": answered.has_quorum,
        "claims": {member.device: _claim(member) for member in answered.members},
    }


def _silence(answered: SwarmStatus) -> str:
    spare = answered.voters_up - answered.budget.q
    if spare < 0:
        return f"{-spare} more must answer before anything becomes final"
    if spare == 0:
        return "not one of those that answer may fall silent"
    return f"{spare} of those that answer may fall silent before nothing becomes final"


def _row(member: MemberStatus) -> tuple[str, ...]:
    claim = member.claim
    if claim is None:
        return (member.device, *("-" * 6), "no answer")
    numbers = (
        claim.view,
        claim.finalized_view,
        claim.height,
        claim.log_size,
        claim.pending,
        len(claim.peers),
    )
    return (member.device, *map(str, numbers), claim.version)


def _claim(member: MemberStatus) -> dict[str, Any] | None:
    claim = member.claim
    if claim is None:
        return None
    return {
        "epoch": claim.epoch,
        "view": claim.view,
        "finalized_view": claim.finalized_view,
        "height": claim.height,
        "log_size": claim.log_size,
        "log_root": claim.log_root.hex(),
        "pending": claim.pending,
        "peers": list(claim.peers),
        "version": claim.version,
    }
