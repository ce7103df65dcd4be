"""What the bytes of the flash say, read without any code of the bootloader, the application or the agent.

The layout of the media is restated here on purpose: an oracle that shares a parser shares its mistakes.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Mapping
from dataclasses import dataclass

from firmware_sim.flash import NorFlash
from firmware_sim.slots import DeviceLayout

_MAGIC = bytes.fromhex("77c295f360d2ef7f3552500f2cb67980")


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotTrace:
    """A trailer: whether its magic is whole, and each flag as `unset`, `set` or `torn`."""

    magic: bool
    image_ok: str
    copy_done: str
    swap: int


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaView:
    """The media of a device in names: an image is named only if every byte of it is there."""

    primary: str
    update: str
    previous: str
    first: SlotTrace
    second: SlotTrace
    counter: int | None
    sealed: frozenset[str]
    revoked: frozenset[str]
    fetching: str
    """The image whose progress is noted."""
    noted: frozenset[int]
    """Chunks noted as durable."""

    @property
    def on_trial(self) -> bool:
        return self.first.magic and self.first.copy_done != "unset" and self.first.image_ok == "unset"

    @property
    def swapping(self) -> bool:
        """Whether a swap was begun in the primary trailer and not closed."""
        return self.first.magic and self.first.copy_done == "unset"

    @property
    def reverting(self) -> bool:
        """Whether the trailers order the old image back, or are carrying that out."""
        ordered = self.second.magic and self.second.copy_done == "set" and self.second.image_ok != "set"
        return ordered or (self.swapping and self.first.swap == 4)


class Oracle:
    """Names what lies on a flash of `layout`; `images` are the only images that were ever approved or planted."""

    def __init__(self, layout: DeviceLayout, images: Mapping[str, bytes]) -> None:
        self.layout = layout
        self.images = dict(images)
        self.names = {image[-32:]: name for name, image in images.items()}

    def look(self, flash: NorFlash) -> MediaView:
        """Read everything that counts."""
        primary, secondary = self.layout.primary, self.layout.secondary
        sealed, revoked = self._records(flash)
        fetching = self._fetching(flash)
        return MediaView(
            primary=self.image_at(flash, primary.start),
            update=self.image_at(flash, secondary.start + secondary.sector),
            previous=self.image_at(flash, secondary.start),
            first=self._trace(flash, primary.end),
            second=self._trace(flash, secondary.end),
            counter=self._counter(flash),
            sealed=sealed,
            revoked=revoked,
            fetching=fetching,
            noted=self._noted(flash, fetching),
        )

    def image_at(self, flash: NorFlash, offset: int) -> str:
        """Return the name of the image whose bytes lie there in full, empty if none."""
        for name, image in self.images.items():
            if flash.data.startswith(image, offset):
                return name
        return ""

    def _trace(self, flash: NorFlash, end: int) -> SlotTrace:
        def flag(value: int) -> str:
            return "unset" if value == flash.erased else "set" if value == 1 else "torn"

        return SlotTrace(
            magic=bytes(flash.data[end - 16 : end]) == _MAGIC,
            image_ok=flag(flash.data[end - 24]),
            copy_done=flag(flash.data[end - 32]),
            swap=flash.data[end - 40] & 0x0F,
        )

    def _newest(self, flash: NorFlash, sectors: tuple[int, int]) -> bytes | None:
        found: list[tuple[int, bytes]] = []
        for sector in sectors:
            number, length = struct.unpack_from("<IH", flash.data, sector)
            body = bytes(flash.data[sector : sector + 6 + min(length, 1000)])
            proof = bytes(flash.data[sector + 6 + length : sector + 14 + length])
            if hashlib.sha256(b"firmware-sim/nv/1\0" + body).digest()[:8] == proof:
                found.append((number, body[6:]))
        return max(found)[1] if found else None

    def _counter(self, flash: NorFlash) -> int | None:
        payload = self._newest(flash, self.layout.counter)
        return None if payload is None else int.from_bytes(payload, "little")

    def _records(self, flash: NorFlash) -> tuple[frozenset[str], frozenset[str]]:
        payload = self._newest(flash, self.layout.records)
        if payload is None:
            return frozenset(), frozenset()
        digests = [payload[i : i + 32] for i in range(2, len(payload), 32)]
        named = [self.names.get(digest, digest.hex()) for digest in digests]
        return frozenset(named[: payload[0]]), frozenset(named[payload[0] :])

    def _fetching(self, flash: NorFlash) -> str:
        start = self.layout.progress
        head, proof = bytes(flash.data[start : start + 36]), bytes(flash.data[start + 36 : start + 44])
        whole = hashlib.sha256(b"firmware-sim/nv/1\0" + head).digest()[:8] == proof
        return self.names.get(head[:32], "") if whole else ""

    def _noted(self, flash: NorFlash, name: str) -> frozenset[int]:
        if not name:
            return frozenset()
        chunks = -(-len(self.images[name]) // self.layout.sector)
        start = self.layout.progress + 48
        # a 1, or what a cut leaves on the way to it; never the zeros of an erase that was cut
        written = {1} if flash.erased == 0 else set(range(1, 0xFF, 2))
        cells = (flash.data[start + i * flash.align] for i in range(chunks))
        return frozenset(i for i, cell in enumerate(cells) if cell in written)

    def false_notes(self, flash: NorFlash, view: MediaView) -> list[int]:
        """Return the chunks that are noted and not there."""
        image, sector = self.images.get(view.fetching, b""), self.layout.sector
        start = self.layout.secondary.start + sector
        chunk = {i: image[i * sector : (i + 1) * sector] for i in view.noted}
        return sorted(i for i in view.noted if not flash.data.startswith(chunk[i], start + i * sector))

    def image_counter(self, name: str) -> int:
        """Return the security counter of an image."""
        return int.from_bytes(self.images[name][12:16], "little")
