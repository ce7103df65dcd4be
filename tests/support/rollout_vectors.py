"""Golden vectors of `rollout@1`: a manifest, every command and every event, pinned in tests/vectors/rollout/.

`python -m tests.support.rollout_vectors` writes them anew. Do that only for a new version of the application: a changed
vector means that devices of two releases no longer understand each other.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Final

from swarm.apps.rollout import events as e
from swarm.apps.rollout.entries import (
    Activate,
    Approve,
    Arm,
    ChangeKeys,
    Command,
    Consent,
    Go,
    Halt,
    Late,
    MakePlan,
    Propose,
    Ready,
    Report,
    Resume,
    Revoke,
    Rollback,
    decode_command,
    encode_command,
)
from swarm.apps.rollout.keys import KeySet, rotation_id, sign_revocation, sign_rotation
from swarm.apps.rollout.manifest import Need, encode_manifest, sign_release, sorted_signatures
from swarm.apps.rollout.spec import PlanSpec, Step
from swarm.crypto.digest import tagged_sha256
from swarm.wire.codec import encode
from tests.support.rollouts import (
    CLASS,
    OTHER_CLASS,
    VENDOR,
    make_manifest,
    make_rollout_genesis,
    release_keypairs,
)

FOLDER: Final = Path(__file__).resolve().parents[1] / "vectors" / "rollout"

GENESIS: Final = make_rollout_genesis()
PLAN: Final = tagged_sha256("test plan")
IMAGE: Final = tagged_sha256("test image")
ROOT: Final = tagged_sha256("test root")
MANIFEST: Final = make_manifest(
    GENESIS.id,
    2**40,
    version="2.1.0-rc1",
    counter=7,
    oldest=3,
    use_before=100_000,
    protocols=(1, 2),
    needs=(Need(VENDOR, OTHER_CLASS, 9),),
    notes=b"fixes the valve",
)
RELEASE: Final = MANIFEST.release
KEYS: Final = KeySet(1, 2, tuple(sorted(pair.public for pair in release_keypairs())))
SIGNED: Final = sorted_signatures(sign_release(pair, RELEASE) for pair in release_keypairs()[:2])
ROTATED: Final = sorted_signatures(sign_rotation(pair, GENESIS.id, KEYS) for pair in release_keypairs()[:2])
UNWANTED: Final = sorted_signatures(sign_revocation(pair, RELEASE) for pair in release_keypairs()[:2])
SPEC: Final = PlanSpec(
    steps=(Step("voters", 1, 0), Step("observers", 0, 250)),
    soak_ms=1000,
    deadline_ms=60_000,
    trial_ms=20_000,
    attempts=2,
    max_fail=3,
    min_confirmed=2,
    pause_after=(0,),
    barrier=True,
    hold_back=3,
    reserve=0,
    retries=1,
)
REPORT: Final = Report(
    permit=77,
    incarnation=1,
    boot=300,
    step=2,
    result="confirmed",
    reason="",
    class_id=VENDOR + CLASS,
    slot=1,
    digest=IMAGE,
    number=2**40,
    counter=7,
    confirmed=True,
    degraded=False,
    spare="sealed",
    spare_digest=ROOT,
    nonce_height=55,
    nonce_root=ROOT,
    attestation=b"attested",
    previous=70,
)

COMMANDS: Final[dict[str, Command]] = {
    "propose": Propose(encode_manifest(MANIFEST), SIGNED),
    "approve": Approve(RELEASE),
    "keys": ChangeKeys(KEYS.k, KEYS.keys, ROTATED),
    "plan": MakePlan(RELEASE, SPEC),
    "plan-defaults": MakePlan(RELEASE, PlanSpec()),
    "go": Go(PLAN, 3, 1),
    "ready": Ready(PLAN, 3),
    "arm": Arm(PLAN, 3, 1, 2, IMAGE),
    "report": REPORT,
    "late": Late(PLAN, 3, 1, 2),
    "halt": Halt(PLAN, of_class=False, reason="smoke"),
    "halt-class": Halt(VENDOR + CLASS, of_class=True, reason=""),
    "resume": Resume(PLAN, 1, ("dev-1", "obs-0")),
    "rollback": Rollback(PLAN, stop=False),
    "abandon": Rollback(PLAN, stop=True),
    "revoke": Revoke(RELEASE, "bad valve", UNWANTED),
    "consent": Consent(PLAN, "dev-2"),
    "activate": Activate(2),
}

EVENTS: Final[dict[str, e.RolloutEvent]] = {
    "proposed": e.Proposed(RELEASE, VENDOR + CLASS, 2**40, "2.1.0-rc1"),
    "contradiction": e.Contradiction(VENDOR + CLASS, 2**40, RELEASE, ROOT),
    "approved": e.Approved(RELEASE),
    "keys-changed": e.KeysChanged(KEYS, emergency=False, voided=(RELEASE,)),
    "planned": e.Planned(PLAN, RELEASE),
    "opened": e.Opened(PLAN, 0, 1, "voters", ("dev-3",)),
    "permit": e.Permitted(PLAN, 0, 1, "dev-3", 0, IMAGE, ("dev-1",)),
    "refused": e.Refused(PLAN, 0, 1, "dev-3", 0, "at-risk"),
    "accepted": e.Accepted(77, "dev-3"),
    "rejected": e.Denied(77, "dev-3", "frozen"),
    "deadline": e.Deadline(PLAN, 0, 1, 1, ("dev-3",), ("dev-1",), ("dev-0",)),
    "closed": e.Closed(PLAN, 0, 1, ("dev-3",), ()),
    "frozen": e.Frozen(PLAN, VENDOR + CLASS, 1, "failed:dev-3"),
    "resumed": e.Resumed(PLAN, 2, ("dev-3",)),
    "rolling-back": e.RollingBack(PLAN, 4, 3),
    "abandoned": e.Abandoned(PLAN),
    "rolled-back": e.RolledBack(PLAN, ("dev-0",)),
    "revoked": e.Revoked(RELEASE, IMAGE, "bad valve"),
    "completed": e.Completed(PLAN, RELEASE),
    "ran": e.Ran("dev-3", REPORT, 70),
    "activated": e.Activated(2),
    "consented": e.Consented(PLAN, "dev-2"),
}

SIGNED_BYTES: Final[dict[str, bytes]] = {
    "manifest": encode_manifest(MANIFEST),
    "release-id": RELEASE,
    "release-signature": SIGNED[0][1],
    "rotation-id": rotation_id(GENESIS.id, KEYS),
    "rotation-signature": ROTATED[0][1],
    "revocation-signature": UNWANTED[0][1],
    "genesis-id": GENESIS.id,
    "permit-key": e.permit_key(PLAN, 3, 1, "dev-3", 2),
    "stage-key": e.stage_key(PLAN, 3, 1),
    "report-key": e.report_key("dev-3", 1, 300, 2),
    "verdict-key": e.verdict_key("dev-3", 77),
    "plan-key": e.plan_key(PLAN),
    "release-key": e.release_key(RELEASE),
    "keys-key": e.keys_key(1),
    "protocol-key": e.protocol_key(2),
    "class-key": e.class_key(VENDOR + CLASS),
}

DECODERS: Final[dict[str, Callable[[bytes], object]]] = {
    "commands": decode_command,
    "events": e.decode_event,
}


def samples() -> dict[str, dict[str, bytes]]:
    """Return all samples: file -> name -> bytes."""
    return {
        "signed": SIGNED_BYTES,
        "commands": {name: encode_command(command) for name, command in COMMANDS.items()},
        "events": {name: encode(event) for name, event in EVENTS.items()},
    }


def written(group: dict[str, bytes]) -> str:
    """Return the text of one vector file."""
    return json.dumps({name: data.hex() for name, data in group.items()}, indent=1) + "\n"


def rewrite() -> None:
    """Write all vector files anew."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for file, group in samples().items():
        (FOLDER / f"{file}.json").write_text(written(group), encoding="utf-8")


if __name__ == "__main__":
    rewrite()
