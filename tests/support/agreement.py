"""Checkers of safety over what correct devices signed and delivered, written from PROTOCOL.md and nothing else.

Pure functions: statements and logs in, complaints out (empty = held). The lying voters are taken to have signed
everything, so a certificate counts as existing as soon as q - liars correct voters signed for it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from swarm.wire.statements import Header, Kind, SignedStatement


@dataclass(frozen=True, slots=True)
class World:
    """What the checkers look at: everything that correct voters ever signed, and the headers of all blocks."""

    q: int
    liars: int
    genesis: bytes
    statements: Sequence[SignedStatement]
    """Of correct voters only."""
    headers: Mapping[bytes, Header]


def certifiable(world: World, kind: Kind) -> list[tuple[int, bytes]]:
    """Return (view, digest) of every certificate of `kind` that can exist, by view."""
    signers: dict[tuple[int, bytes], set[int]] = {}
    for statement in world.statements:
        if statement.kind == kind:
            signers.setdefault((statement.number, statement.digest), set()).add(statement.voter)
    return sorted(key for key, voters in signers.items() if len(voters) + world.liars >= world.q)


def ancestors(world: World, digest: bytes) -> list[bytes]:
    """Return the block and its ancestors, child first, as far as headers are known."""
    chain = [digest]
    while chain[-1] != world.genesis and (header := world.headers.get(chain[-1])) is not None:
        chain.append(header.parent)
    return chain


def check_agreement(world: World) -> list[str]:
    """Lemma 6: of two finalized blocks the one of the lower view is an ancestor of the other."""
    complaints: list[str] = []
    finals = certifiable(world, Kind.FINALIZE)
    for i, (low_view, low) in enumerate(finals):
        complaints.extend(
            f"fork: FC {low_view} {low.hex()[:8]} is no ancestor of FC {high_view} {high.hex()[:8]}"
            for high_view, high in finals[i + 1 :]
            if low not in ancestors(world, high)
        )
    return complaints


def check_lemmas(world: World) -> list[str]:
    """Lemmas 1 to 5 over everything that could be certified."""
    notarized, skipped, finalized = (
        certifiable(world, kind) for kind in (Kind.NOTARIZE, Kind.SKIP, Kind.FINALIZE)
    )
    skipped_views = {view for view, _ in skipped}
    complaints = [f"lemma 1: FC and SC of view {view}" for view, _ in finalized if view in skipped_views]
    for lemma, certificates in ((2, notarized), (4, finalized)):
        views = [view for view, _ in certificates]
        complaints += [f"lemma {lemma}: two of view {v}" for v in sorted(set(views)) if views.count(v) > 1]
    complaints += [f"lemma 3: FC without VC in view {v}" for v, d in finalized if (v, d) not in notarized]
    for view, digest in notarized:
        header = world.headers.get(digest)
        if header is None or header.parent == world.genesis:
            continue
        if (header.parent_view, header.parent) not in notarized:
            complaints.append(f"lemma 5: VC {view} on a block whose parent is not notarized")
    return complaints


def check_one_vote_per_view(statements: Sequence[SignedStatement]) -> list[str]:
    """No correct voter makes a convicting pair: N and N, P and P, F and F, F and K of one view."""
    held: dict[tuple[int, int], list[SignedStatement]] = {}
    for statement in statements:
        if statement.kind != Kind.ATTEST:
            held.setdefault((statement.voter, statement.number), []).append(statement)
    complaints: list[str] = []
    for (voter, view), signed in sorted(held.items()):
        for kind in (Kind.PROPOSE, Kind.NOTARIZE, Kind.FINALIZE):
            digests = {s.digest for s in signed if s.kind == kind}
            if len(digests) > 1:
                complaints.append(f"voter {voter} signed two {kind.name} in view {view}")
        if {Kind.FINALIZE, Kind.SKIP} <= {Kind(s.kind) for s in signed}:
            complaints.append(f"voter {voter} signed F and K in view {view}")
    return complaints


def check_logs(logs: Sequence[Sequence[bytes]]) -> list[str]:
    """Every log of block hashes is a prefix of every longer one."""
    longest = max(logs, key=len, default=[])
    return [
        f"log {i} is no prefix of the longest"
        for i, log in enumerate(logs)
        if list(log) != list(longest[: len(log)])
    ]
