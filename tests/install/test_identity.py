"""Vendor and class UUIDs: as imgtool makes them, and nothing that is written in two ways."""

from __future__ import annotations

import uuid

import pytest

from swarm.install.identity import class_id, describe_class, vendor_id
from swarm.primitives.errors import ConfigError


def test_names_become_the_uuids_of_imgtool() -> None:
    vendor = vendor_id("acme.example")
    assert vendor == uuid.uuid5(uuid.NAMESPACE_DNS, "acme.example").bytes
    assert class_id(vendor, "gateway") == uuid.uuid5(uuid.UUID(bytes=vendor), "gateway").bytes


def test_imgtool_itself_agrees() -> None:
    image = pytest.importorskip("imgtool.image")
    make = getattr(image, "parse_uuid", None)
    if make is None:
        pytest.skip("this imgtool has no parse_uuid")
    vendor = make(uuid.NAMESPACE_DNS, "acme.example")
    assert bytes(vendor) == vendor_id("acme.example")


def test_a_uuid_stands_for_itself_in_every_spelling() -> None:
    text = "6BA7B810-9dad-11d1-80b4-00c04fd430c8"
    expected = uuid.UUID(text).bytes
    assert vendor_id(text) == vendor_id(text.replace("-", "").lower()) == expected
    assert class_id(bytes(16), text) == expected


def test_one_class_name_of_two_vendors_is_two_classes() -> None:
    assert class_id(vendor_id("acme.example"), "gateway") != class_id(vendor_id("other.example"), "gateway")


@pytest.mark.parametrize("text", ["", "a b", "Acme.example", "käse.example", "x" * 256, "a\n"])
def test_what_could_be_written_in_two_ways_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"^firmware\.vendor: "):
        vendor_id(text, where="firmware.vendor")


def test_a_class_is_described_by_both_uuids() -> None:
    vendor = vendor_id("acme.example")
    both = vendor + class_id(vendor, "gateway")
    assert describe_class(both) == f"{uuid.UUID(bytes=both[:16])}/{uuid.UUID(bytes=both[16:])}"
