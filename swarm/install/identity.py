"""Who made a device and what kind of device it is: the two UUIDs in images, manifests and reports.

A name becomes a UUID as imgtool makes it for `--vid` and `--cid` and as SUIT does (RFC 9562, version 5), so
`acme.example` here and there is the same vendor.
"""

from __future__ import annotations

import uuid
from typing import Final

from swarm.primitives.errors import ConfigError

UUID_BYTES: Final = 16
NAME_BYTES_MAX: Final = 255
"""As long as a domain name may be (RFC 1035)."""


def vendor_id(text: str, *, where: str = "vendor") -> bytes:
    """Return the 16 bytes of a vendor: a UUID's text, or a name such as `acme.example` in the DNS name space.

    Raises `ConfigError` at `where` for anything else.
    """
    return _read_uuid(text) or uuid.uuid5(uuid.NAMESPACE_DNS, _checked(text, where)).bytes


def class_id(vendor: bytes, text: str, *, where: str = "class") -> bytes:
    """Return the 16 bytes of a class of devices: a UUID's text, or a name such as `gateway` within its vendor.

    `vendor` = 16 bytes of `vendor_id`. Raises `ConfigError` at `where` for anything else.
    """
    return _read_uuid(text) or uuid.uuid5(uuid.UUID(bytes=vendor), _checked(text, where)).bytes


def describe_class(class_of: bytes) -> str:
    """Return the text of vendor and class UUID (32 bytes in one), as every command prints it."""
    return f"{uuid.UUID(bytes=class_of[:UUID_BYTES])}/{uuid.UUID(bytes=class_of[UUID_BYTES:])}"


def _read_uuid(text: str) -> bytes:
    """Return the bytes of a UUID in its usual form, with or without hyphens; empty for any other text."""
    plain = text.replace("-", "")
    if len(plain) != 2 * UUID_BYTES or not plain.isascii() or not plain.isalnum():
        return b""
    try:
        return bytes.fromhex(plain)
    except ValueError:
        return b""


def _checked(text: str, where: str) -> str:
    # Only what is written the same everywhere: a look-alike letter or a capital would be another vendor.
    if not 1 <= len(text) <= NAME_BYTES_MAX or not text.isascii() or not text.isprintable() or " " in text:
        raise ConfigError(f"{text!r} is neither a UUID nor a name", where=where, hint="such as acme.example")
    if text != text.lower():
        raise ConfigError(f"{text!r} has capital letters", where=where, hint=text.lower())
    return text
