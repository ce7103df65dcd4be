"""The strict image verifier as the boards of the lab have it, on the bytes of a slot.

A bootloader verifies at every start, and a fleet runs very few different images. So a verdict is kept under the whole
image, byte by byte: a changed byte is another image and is verified anew.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from functools import lru_cache
from typing import Final

from firmware_sim.bootloader import Verdict
from swarm.install.image import ImageError, ImageRules, verify_image
from swarm.lab.firmware_images import behaviour_of

VERDICTS_MAX: Final = 64
"""Images with a kept verdict, in one process: a few releases and what cuts made of them; 4 MiB of 64 KiB images."""

_SIZES: Final = struct.Struct("<8xHHI")
_AREA: Final = struct.Struct("<HH")


def image_bytes(slot: bytes) -> int:
    """Return how many bytes the image at the start of a slot says it has, at most all; nonsense gives nonsense."""
    if len(slot) < _SIZES.size:
        return len(slot)
    header, protected, payload = _SIZES.unpack_from(slot)
    end = int(header + protected + payload)
    if end + _AREA.size > len(slot):
        return len(slot)
    return min(len(slot), end + int(_AREA.unpack_from(slot, end)[1]))


@lru_cache(maxsize=16)
def slot_verifier(rules: ImageRules) -> Callable[[bytes], Verdict]:
    """Return what judges the bytes from the start of an image to the end of its slot.

    What lies behind the image is not looked at: there the remains of longer ones lie, and nobody runs them.
    """

    @lru_cache(maxsize=VERDICTS_MAX)
    def judge(image: bytes) -> Verdict:
        try:
            info = verify_image(image, rules, bytes_max=len(image))
        except ImageError as error:
            return Verdict(ok=False, reason=str(error.reason))
        return Verdict(
            ok=True, digest=info.digest, size=info.size, counter=info.counter, behaves=behaviour_of(info)
        )

    def verify(slot: bytes) -> Verdict:
        return judge(slot[: image_bytes(slot)])

    return verify
