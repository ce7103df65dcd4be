"""The first release of a device: slots, seal, boot records and selection, laid out once."""

from __future__ import annotations

from swarm.install.bundle import parse_bundle
from swarm.install.filesystem import FileSystem
from swarm.install.image import ImageError
from swarm.install.port import InstallError, InstallPlan, InstallReason
from swarm.install.records import create_records
from swarm.install.selection import SLOTS, boot_folder, select_slot
from swarm.install.staging import fill_slot, medium, seal_of, seal_slot


def set_up(disk: FileSystem, root: str, plan: InstallPlan, data: bytes) -> None:
    """Lay out a device for the first time: `data` is the bundle of `plan`, sealed in slot a and confirmed.

    `root` exists and is empty. Raises `InstallError` when the bundle is not the plan's, or the disk fails; a set-up
    that did not end is done again on an empty folder.
    """
    try:
        bundle = parse_bundle(data)
    except ImageError as error:
        raise InstallError(InstallReason.IMAGE_REFUSED, str(error)) from error
    seal = seal_of(plan)
    if bundle.digest.hex() != seal.digest or len(data) != plan.file_bytes:
        raise InstallError(InstallReason.WRONG_DIGEST)
    with medium():
        disk.mkdir(f"{root}/slots")
        disk.mkdir(boot_folder(root))
        fill_slot(disk, root, SLOTS[0], bundle)
        seal_slot(disk, root, SLOTS[0], seal)
        create_records(disk, boot_folder(root), SLOTS[0], seal.digest, seal.counter)
        select_slot(disk, root, SLOTS[0])
