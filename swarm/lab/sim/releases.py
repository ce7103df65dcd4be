"""The releases of a scenario as bytes: images, manifests, and the keys that sign them, all from name and seed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from swarm.apps.rollout.entries import ChangeKeys, Propose, Revoke
from swarm.apps.rollout.keys import KeySet, sign_revocation, sign_rotation
from swarm.apps.rollout.manifest import (
    FORMAT,
    Manifest,
    Need,
    encode_manifest,
    release_id,
    sign_release,
    sorted_signatures,
)
from swarm.crypto.digest import sha256
from swarm.crypto.keys import KeyPair
from swarm.install.image import Version
from swarm.install.port import InstallPlan
from swarm.lab.firmware_images import ImageSpec, describe_file, image_digest, make_image, plan_of
from swarm.lab.scenario.firmware import (
    FACTORY,
    FACTORY_NUMBER,
    IMAGE_BYTES_DEFAULT,
    STOLEN,
    FirmwareModel,
    KeysModel,
    ReleaseModel,
    class_ids,
)
from swarm.lab.scenario.schema import Scenario, StolenKeys
from swarm.primitives.errors import check

_OWN_SHARE: Final = 3
"""One byte in so many is an image's own, the others are those of every image of its size: devices copy as well as fetch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MadeRelease:
    """One release, whole. `plan` is what an install back end is given."""

    model: ReleaseModel
    file: bytes
    manifest: bytes
    id: bytes
    plan: InstallPlan

    @property
    def digest(self) -> bytes:
        """The image digest (32 bytes)."""
        return self.plan.image_digest


@dataclass(slots=True)
class Releases:
    """Everything that a vendor, or a thief, of this scenario could sign."""

    scenario: Scenario
    firmware: FirmwareModel
    keys: list[KeyPair] = field(init=False)
    """The first release keys."""
    image_key: KeyPair = field(init=False)
    """What signs images: every device's bootloader knows it."""
    made: dict[str, MadeRelease] = field(init=False, default_factory=dict)
    key_epoch: int = 0

    def __post_init__(self) -> None:
        """Draw the keys; nothing else is made before the swarm's id is known."""
        self.keys = [self.key("release", number) for number in range(self.firmware.keys.n)]
        self.image_key = self.key("image", 0)

    def key(self, use: str, number: int, epoch: int = 0) -> KeyPair:
        """Return a key pair of this scenario and seed, for tests only."""
        label = f"{self.scenario.name}/{self.scenario.seed}/{use}/{epoch}/{number}"
        return KeyPair(sha256(b"swarm scenario firmware key", label.encode()))

    # ------------------------------------------------------------------------------ images

    def factory_spec(self, class_name: str) -> ImageSpec:
        """Return the facts of the image that every device of a class begins with."""
        return self._spec(class_name, FACTORY_NUMBER, 0, "healthy", IMAGE_BYTES_DEFAULT)

    def factory(self, class_name: str) -> MadeRelease:
        """Return the image that every device of a class begins with; it has no manifest on the log."""
        model = ReleaseModel(name=FACTORY, behaves="healthy", class_name=class_name, number=FACTORY_NUMBER)
        spec = self.factory_spec(class_name)
        file = make_image(spec, self.image_key)
        id = sha256(b"factory", spec.device_class)
        plan = plan_of(file, spec, release=id, number=FACTORY_NUMBER, chunk_bytes=model.chunk_bytes)
        return MadeRelease(model=model, file=file, manifest=b"", id=id, plan=plan)

    def make(self, swarm: bytes) -> None:
        """Make every release of the scenario for the swarm with this id (32 bytes), a thief's included."""
        models = dict(self.firmware.releases)
        if any(isinstance(fault, StolenKeys) for fault in self.scenario.faults):
            models[STOLEN] = self._stolen(models.values())
        for place, (name, model) in enumerate(models.items(), 1):
            self.made[name] = self._make(model, swarm, place % 256)

    def _stolen(self, models: Iterable[ReleaseModel]) -> ReleaseModel:
        known = list(models)
        return ReleaseModel(
            name=STOLEN,
            behaves="brick",
            class_name=known[0].class_name,
            number=max(model.number for model in known) + 1,
        )

    def _spec(
        self, class_name: str, number: int, counter: int, behaves: str, size: int, place: int = 0
    ) -> ImageSpec:
        """Return the facts of an image; `place` keeps two releases with one number two images."""
        vendor, device_class = class_ids(class_name)
        return ImageSpec(
            version=Version(1, place, 0, number % 2**32),
            vendor=vendor,
            device_class=device_class,
            size=size,
            counter=counter,
            behaves=behaves,
            seed=self.scenario.seed,
            common=size - size // _OWN_SHARE,
        )

    def _make(self, model: ReleaseModel, swarm: bytes, place: int) -> MadeRelease:
        behaves = f"bomb: {model.bomb_ms}" if model.behaves == "bomb" else model.behaves
        spec = self._spec(model.class_name, model.number, model.counter, behaves, model.image_bytes, place)
        file = make_image(spec, self.image_key)
        facts = describe_file(file, model.chunk_bytes)
        needs = []
        for name, number in model.needs.items():
            vendor, device_class = class_ids(name)
            needs.append(Need(vendor, device_class, number))
        manifest = Manifest(
            format=FORMAT,
            swarm=swarm,
            vendor=spec.vendor,
            class_uuid=spec.device_class,
            number=model.number,
            version=model.name,
            counter=model.counter,
            oldest=model.oldest,
            file_bytes=facts.file_bytes,
            file_hash=facts.file_digest,
            image_digest=image_digest(file),
            chunk_bytes=facts.chunk_bytes,
            chunk_count=facts.chunk_count,
            chunk_root=facts.chunk_root,
            use_before=model.use_before,
            protocols=(1, 1),
            stores=(1, 1),
            needs=tuple(sorted(needs, key=lambda need: need.vendor + need.class_uuid)),
            notes=b"",
        )
        encoded = encode_manifest(manifest)
        id = release_id(encoded)
        plan = plan_of(file, spec, release=id, number=model.number, chunk_bytes=model.chunk_bytes)
        return MadeRelease(model=model, file=file, manifest=encoded, id=id, plan=plan)

    def version_of(self, digest: bytes) -> str:
        """Return the name of the release with this image digest, `factory` for the first image, or empty."""
        for name in self.firmware.classes:
            if self.factory(name).digest == digest:
                return FACTORY
        return next((name for name, made in self.made.items() if made.digest == digest), "")

    # ------------------------------------------------------------------------------ signatures

    def propose(self, name: str, signers: int | None = None) -> Propose:
        """Return the entry that proposes a release, signed by so many release keys, or by as many as are needed."""
        made = self.made[name]
        count = self.firmware.keys.k if signers is None else signers
        return Propose(
            made.manifest, sorted_signatures(sign_release(pair, made.id) for pair in self.keys[:count])
        )

    def revoke(self, name: str, signers: int = 0) -> Revoke:
        """Return the entry that revokes a release."""
        made = self.made[name]
        signatures = sorted_signatures(sign_revocation(pair, made.id) for pair in self.keys[:signers])
        return Revoke(made.id, "scenario", signatures)

    def change_keys(self, wanted: KeysModel, swarm: bytes) -> ChangeKeys:
        """Return the entry that changes to fresh keys, signed by enough of the old and the new; once per epoch."""
        check(wanted.k <= wanted.n, "more signatures than keys")
        fresh = [self.key("release", number, self.key_epoch + 1) for number in range(wanted.n)]
        public = tuple(sorted(pair.public for pair in fresh))
        new = KeySet(self.key_epoch + 1, wanted.k, public)
        signatures = {
            sign_rotation(pair, swarm, new)
            for pair in (*self.keys[: self.firmware.keys.k], *fresh[: wanted.k])
        }
        return ChangeKeys(wanted.k, public, sorted_signatures(signatures))
