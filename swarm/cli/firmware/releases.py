"""`swarm firmware propose`, `approve` and `revoke`: releases on the log."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from swarm.apps.rollout.entries import Approve, Propose, Revoke
from swarm.apps.rollout.keys import sign_revocation
from swarm.apps.rollout.manifest import sorted_signatures
from swarm.apps.rollout.state import Release
from swarm.cli.boundary import CommandFailed
from swarm.cli.files import JsonOption, write_json
from swarm.cli.firmware.keys import load_keys
from swarm.cli.firmware.release_file import ReleaseFile, load_release
from swarm.cli.firmware.session import (
    ReleaseArgument,
    Session,
    WaitOption,
    count_of,
    run_session,
    say,
)
from swarm.cli.firmware.words import describe_manifest, report_manifest
from swarm.cli.light import AsOption, read_timeout_s
from swarm.cli.logs import LogLevel, tell
from swarm.primitives.errors import ConfigError
from swarm.primitives.ids import short
from swarm.primitives.limits import ROLLOUT_REASON_MAX

ReasonOption = Annotated[str, typer.Option("--reason", help="For the log, up to 100 characters.")]


def propose(
    path: Annotated[
        Path,
        typer.Argument(metavar="FILE.swfw", show_default=False, help="A release, signed by enough keys."),
    ],
    *,
    as_: AsOption,
    timeout: WaitOption = "60s",
    json: JsonOption = None,
) -> None:
    """Put a release on the log. Nothing runs it before a quorum approved it and a plan names devices."""
    timeout_s = read_timeout_s(timeout)

    async def work(session: Session) -> Release:
        release = load_release(path, session.genesis.id)
        known = check_proposal(session, release, path)
        if known is not None:
            say(f"release {short(release.id)} is on the log already: {known.state}")
            return known
        warn_of_equal_image(session, release)
        await session.submit(Propose(release.manifest_bytes, release.signatures), timeout_s)
        proposed = session.release(release.id)
        if proposed is None:
            raise CommandFailed(f"the log took the proposal of release {short(release.id)} as a no-op")
        for line in describe_manifest(proposed.manifest):
            say(line)
        say(f"proposed at height {session.replay.height}")
        if proposed.contradicted:
            raise CommandFailed(
                f"CONTRADICTION: another release with number {proposed.manifest.number} is signed as well; its class"
                " stands still until the keys are changed, or a resume names the one that survives"
            )
        return proposed

    done = run_session(as_, work)
    if json is not None:
        write_json({**report_manifest(done.manifest), "state": done.state}, json)


def check_proposal(session: Session, release: ReleaseFile, path: Path) -> Release | None:
    """Raise `ConfigError` for what the log would ignore; return the release if it is there already."""
    state, manifest, where = session.state, release.manifest, str(path)
    known = session.release(release.id)
    if known is not None and known.state != "voided":
        return known
    have, keys = release.signed_by(state.keys.keys), state.keys
    if have < keys.k:
        raise ConfigError(
            f"{have} of the {len(keys.keys)} release keys in force signed it, {keys.k} must",
            where=where,
            hint=f"swarm firmware sign {path} --key KEY",
        )
    newest = state.newest(manifest.class_id, completed=False)
    if newest is not None and manifest.number < newest.manifest.number:
        raise ConfigError(
            f"number {manifest.number} is below {newest.manifest.number}, which is approved",
            where=where,
            hint="numbers only grow; to go back use `swarm firmware rollback`",
        )
    floor = max((d.counter for d in state.devices.values() if d.class_id == manifest.class_id), default=0)
    if manifest.counter < floor:
        raise ConfigError(
            f"security counter {manifest.counter} is below {floor}, which devices enforce: none could start it",
            where=where,
        )
    twins = [r for r in state.releases.values() if _is_twin(r, release)]
    if twins:
        raise ConfigError(
            f"release {short(twins[0].id)} has number {manifest.number} already: proposing this one would freeze its"
            " class",
            where=where,
            hint="give it the next number",
        )
    return None


def warn_of_equal_image(session: Session, release: ReleaseFile) -> None:
    """Say when devices run this very image already: another number for it moves nobody."""
    manifest = release.manifest
    same = [d.id for d in session.state.devices.values() if d.digest == manifest.image_digest]
    if same:
        tell(f"warning: this very image runs already on {', '.join(same[:8])}", LogLevel.WARNING)


def _is_twin(known: Release, release: ReleaseFile) -> bool:
    return (
        known.state != "voided"
        and known.manifest.class_id == release.manifest.class_id
        and known.manifest.number == release.manifest.number
    )


def approve(release: ReleaseArgument, *, as_: AsOption, timeout: WaitOption = "60s") -> None:
    """Ask the voters to approve a release, and wait until a quorum did. Each voter follows its own policy."""
    timeout_s = read_timeout_s(timeout)

    async def work(session: Session) -> None:
        found = session.find_release(release)
        name = f"release {short(found.id)}"
        if found.state == "approved":
            say(f"{name} is approved already, at height {found.approved_height}")
            return
        if found.state != "proposed":
            raise CommandFailed(f"{name} is {found.state}")
        if found.contradicted:
            raise CommandFailed(f"{name} is contradicted by another one with its number; nobody approves it")
        await session.ask(
            Approve(found.id),
            is_done=lambda: found.state == "approved",
            waiting=lambda: f"{name} is approved by {count_of(found.approvals, session.genesis)}",
            timeout_s=timeout_s,
        )
        say(
            f"{name} is approved at height {found.approved_height}: number {found.manifest.number} may be rolled out"
        )
        say(f"next: swarm firmware rollout {found.manifest.number} --as {as_}")

    run_session(as_, work)


def revoke(
    release: ReleaseArgument,
    *,
    as_: AsOption,
    reason: ReasonOption = "revoked by an operator",
    key: Annotated[
        list[Path] | None,
        typer.Option("--key", help="Release keys; enough of them stop it at once, before any vote."),
    ] = None,
    timeout: WaitOption = "60s",
) -> None:
    """Let a release never run again: it is taken back where it runs, and no bootloader starts it if it has another."""
    timeout_s = read_timeout_s(timeout)
    check_reason(reason)
    keypairs = load_keys(key or [])

    async def work(session: Session) -> None:
        found = session.find_release(release)
        name = f"release {short(found.id)}"
        if found.state in ("revoked", "voided"):
            say(f"{name} is {found.state} already")
            return
        strangers = [pair for pair in keypairs if pair.public not in session.state.keys.keys]
        if strangers:
            raise ConfigError("not one of the release keys in force", where="--key")
        signatures = sorted_signatures(sign_revocation(pair, found.id) for pair in keypairs)
        await session.ask(
            Revoke(found.id, reason, signatures),
            is_done=lambda: found.state == "revoked",
            waiting=lambda: (
                f"{name} is revoked by {count_of(found.revocations, session.genesis)}"
                + ("; it stands still already" if found.suspended else "")
            ),
            timeout_s=timeout_s,
        )
        say(f"{name} is revoked")

    run_session(as_, work)


def check_reason(reason: str) -> None:
    """Raise `ConfigError` for a reason that does not fit the log."""
    if len(reason) > ROLLOUT_REASON_MAX:
        raise ConfigError(f"at most {ROLLOUT_REASON_MAX} characters", where="--reason")
