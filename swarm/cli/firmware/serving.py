"""Serving an image: `swarm firmware seed`, and `rollout` when it is given the file itself.

A device fetches only when its own stage opens, so the first members of a rollout need somebody who has the image; from
then on they have it themselves, and this end is only one more peer.
"""

from __future__ import annotations

from contextlib import aclosing
from pathlib import Path
from typing import Annotated

import typer

from swarm.agent.client.replay import follow_log
from swarm.apps.rollout.manifest import Manifest
from swarm.cli.boundary import CommandFailed
from swarm.cli.firmware.manifests import read_size
from swarm.cli.firmware.release_file import SUFFIX, ReleaseFile, load_release
from swarm.cli.firmware.screen import reading
from swarm.cli.firmware.session import Session, run_session, say
from swarm.cli.firmware.words import size_text
from swarm.cli.light import AsOption
from swarm.primitives.errors import ConfigError
from swarm.primitives.ids import DeviceId, short

RateOption = Annotated[
    str | None,
    typer.Option("--rate", metavar="SIZE", help="Serve at most so many bytes a second, such as 1MiB."),
]


def seed(
    path: Annotated[
        Path, typer.Argument(metavar="FILE.swfw", show_default=False, help="A release that is on the log.")
    ],
    *,
    as_: AsOption,
    until: Annotated[
        int,
        typer.Option("--until", min=0, help="Stop when so many devices hold it; 0: all of its class."),
    ] = 0,
    rate: RateOption = None,
) -> None:
    """Serve the image of a release to the voters, until enough devices hold it or Ctrl-C.

    Devices fetch when their stage opens; observers get it from the voters.
    """
    bytes_per_s = read_rate(rate)

    async def work(session: Session) -> None:
        release = load_release(path, session.genesis.id)
        serve(session, release, bytes_per_s)
        with reading("holding the image", "devices") as on_progress:
            async with aclosing(follow_log(session.client, session.replay)) as batches:
                while True:
                    holders, members = (
                        holders_of(session, release.manifest),
                        class_size(session, release.manifest),
                    )
                    enough = min(until, members) if until else members
                    on_progress(len(holders), enough)
                    if members and len(holders) >= enough:
                        break
                    session.logged.extend(await anext(batches))
        say(f"{len(holders)} devices hold release {short(release.id)}; {served_text(session)}")

    run_session(as_, work)


def serve(session: Session, release: ReleaseFile, bytes_per_s: int | None) -> None:
    """Begin to serve a release of the log; raises `CommandFailed` for one that no device would fetch."""
    known = session.release(release.id)
    if known is None:
        raise CommandFailed(f"release {short(release.id)} is not on the log; first `swarm firmware propose`")
    if known.state in ("revoked", "voided"):
        raise CommandFailed(f"release {short(release.id)} is {known.state}; nobody may have it")
    session.client.serve(release.plan, release.image, bytes_per_s=bytes_per_s)


def file_of(text: str) -> Path | None:
    """Return the path in a RELEASE argument that is a file rather than a number or an id."""
    return Path(text) if text.endswith(SUFFIX) else None


def read_rate(text: str | None) -> int | None:
    """Return the bytes a second of `--rate`; raises `ConfigError`."""
    if text is None:
        return None
    rate = read_size(text, "--rate")
    if rate < 1024:
        raise ConfigError("below 1KiB a second every device would give up on it", where="--rate")
    return rate


def holders_of(session: Session, manifest: Manifest) -> list[DeviceId]:
    """Return the devices that run the image or hold it sealed, as the log believes."""
    digest = manifest.image_digest
    return [
        device.id
        for device in session.state.devices.values()
        if device.class_id == manifest.class_id
        and (device.digest == digest or (device.spare == "sealed" and device.spare_digest == digest))
    ]


def class_size(session: Session, manifest: Manifest) -> int:
    """Return how many devices of its class have reported."""
    return sum(device.class_id == manifest.class_id for device in session.state.devices.values())


def served_text(session: Session) -> str:
    """Return what was served from here."""
    counts = session.client.served
    return f"served {counts.chunks} chunks, {size_text(counts.bytes)}"
