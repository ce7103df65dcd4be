"""A simulated board as a rig of the conformance suite, with releases made for it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from firmware_sim.bootloader import UPDATE_SECTOR
from swarm.crypto.digest import sha256
from swarm.crypto.keys import KeyPair
from swarm.install.image import ImageRules, Version
from swarm.lab.firmware_images import ImageSpec, image_digest, make_image, plan_of
from swarm.lab.install_simulated.backend import SimulatedBackend
from swarm.lab.install_simulated.medium import SETTINGS, Boot, SimulatedMedium
from tests.support.install import CHUNK, CLASS, VENDOR, Release

KEY = KeyPair(b"\x07" * 32)
RULES = ImageRules(keys=(KEY.public,), vendor=VENDOR, device_class=CLASS)
SECRET = b"\x5e" * 32


def release_of(
    number: int, *, counter: int = 1, size: int = 6000, behaves: str = "healthy", chunk: int = CHUNK
) -> Release:
    """Return a signed release for the simulated board."""
    spec = ImageSpec(
        version=Version(number, 0, 0, 0),
        vendor=VENDOR,
        device_class=CLASS,
        size=size,
        counter=counter,
        behaves=behaves,
    )
    image = make_image(spec, KEY)
    release = sha256(b"release", image_digest(image), bytes([number]))
    return Release(plan=plan_of(image, spec, release=release, number=number, chunk_bytes=chunk), data=image)


@dataclass
class SimulatedRig:
    """A device for the conformance suite. A start follows a loss of power between operations, or a `soft` reset."""

    medium: SimulatedMedium
    size: int = 6000
    attempts: int = 1
    soft: bool = False
    boots: list[Boot] = field(default_factory=list)

    def start(self) -> SimulatedBackend:
        if self.medium.is_on and self.soft:
            self.boots.append(self.medium.reset())
        else:
            self.medium.power_off()
            self.boots.append(self.medium.power_on())
        return SimulatedBackend(self.medium)

    def release(self, number: int, *, counter: int = 1) -> Release:
        return release_of(number, counter=counter, size=self.size)

    def damage_image(self, release: Release) -> Release:
        data = release.data[:-1] + bytes([release.data[-1] ^ 1])
        spec = ImageSpec(
            version=Version(0, 0, 0, 0), vendor=VENDOR, device_class=CLASS, size=len(data), counter=1
        )
        plan = plan_of(
            data, spec, release=release.plan.release, number=release.plan.number, chunk_bytes=CHUNK
        )
        return Release(plan=replace(plan, image_digest=release.plan.image_digest), data=data)

    def damage_sealed(self) -> None:
        chips = self.medium.chips
        spare = chips.spare()
        place = spare.place if spare else UPDATE_SECTOR
        chips.flash.flip(8 * (chips.layout.secondary.at(place) + 100))


def simulated_rig(
    *, attempts: int = 1, secret: bytes = SECRET, size: int = 6000, image_max: int = 0
) -> SimulatedRig:
    """Return a device with release 1, which was never started."""
    settings = replace(SETTINGS, attempts=attempts)
    medium = SimulatedMedium(
        RULES, image_bytes_max=image_max or max(size, 8192), secret=secret, settings=settings
    )
    first = release_of(1, size=size)
    medium.set_up(first.plan, first.data)
    return SimulatedRig(medium, size, attempts)
