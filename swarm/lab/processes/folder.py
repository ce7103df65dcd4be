"""The folder of a run over a real broker: fresh keys, genesis, a sealed store and a settings file for each device."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from swarm.agent.keyfile import write_key_file
from swarm.crypto.digest import sha256
from swarm.crypto.keys import KeyPair
from swarm.lab.scenario.schema import Scenario
from swarm.primitives.settings import Scalar
from swarm.storage.sqlite import SqliteStore, create_store
from swarm.wire.genesis import Genesis, Member

_NAME_CHARS_MAX: Final = 32
_SUFFIX_BYTES: Final = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """One device's key pair and where its files lie."""

    device: str
    keypair: KeyPair
    config: Path
    store: Path
    errors: Path
    """What its processes write to standard error."""
    seed: int
    """For its noise and its weather: the same for one scenario seed."""


class RunFolder:
    """Made once per run below `path`; holds the keys, so it goes away with the run."""

    def __init__(self, path: Path, scenario: Scenario, *, broker_url: str, shared_broker: bool) -> None:
        """Write everything that the devices of `scenario` need.

        On a broker that others may use at the same time the swarm gets a name of its own: devices of two runs would
        throw each other out.
        """
        self.path = path
        swarm = scenario.name
        if shared_broker:
            suffix = f"-{secrets.token_hex(_SUFFIX_BYTES)}"
            swarm = swarm[: _NAME_CHARS_MAX - len(suffix)] + suffix
        keys = {device: KeyPair(secrets.token_bytes(32)) for device in scenario.devices.ids}
        members = [Member(d, "voter", keys[d].public) for d in scenario.devices.voter_ids]
        members += [Member(d, "observer", keys[d].public) for d in scenario.devices.observer_ids]
        self.genesis = Genesis(swarm=swarm, u=scenario.budget.u, members=tuple(members))
        self._genesis_file = path / "genesis.json"
        self._genesis_file.write_text(self.genesis.to_json(), encoding="utf-8")
        self.identities = {
            device: self._write_device(device, keypair, scenario, broker_url)
            for device, keypair in keys.items()
        }

    def open_store(self, device: str) -> SqliteStore:
        """Open the store of a device whose process has ended; the caller closes it."""
        identity = self.identities[device]
        return SqliteStore(
            identity.store,
            swarm_id=self.genesis.id,
            device=device,
            key_public=identity.keypair.public,
        )

    def _write_device(self, device: str, keypair: KeyPair, scenario: Scenario, broker_url: str) -> Identity:
        identity = Identity(
            device=device,
            keypair=keypair,
            config=self.path / f"{device}.yaml",
            store=self.path / f"{device}.sqlite",
            errors=self.path / f"{device}.log",
            # As in the simulator, so that a sensor has the same noise in both engines.
            seed=int.from_bytes(sha256(str(scenario.seed).encode(), device.encode())[:8], "big"),
        )
        key = self.path / f"{device}.key"
        write_key_file(key, keypair.seed)
        create_store(identity.store, self.genesis.id, device, keypair.public)
        block = scenario.devices.behaviour_of(device)
        settings = {
            "genesis": self._genesis_file.name,
            "device": device,
            "key": key.name,
            "store": identity.store.name,
            "broker": {"url": broker_url},
            "behaviours": [] if block is None else [_from_anywhere(block)],
        }
        # JSON is YAML, and needs no writer of YAML.
        identity.config.write_text(json.dumps(settings, indent=1), encoding="utf-8")
        return identity


def _from_anywhere(block: Mapping[str, Scalar]) -> dict[str, Scalar]:
    """Return the block with the full path of a built-in's file: it is read from another folder now."""
    path = block.get("path")
    if isinstance(path, str) and ":" not in str(block["kind"]):
        return {**block, "path": str(Path(path).absolute())}
    return dict(block)
