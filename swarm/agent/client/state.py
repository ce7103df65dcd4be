"""An operator's memory beside its key: sequence number, boot number and the submissions not proved yet, synced.

It is a device's store (ADR 0006) in which nothing but records, own submissions and the boot number is ever written, so
the one guard, the hash chain and the mark protect it alike. Unlike a device's it may be lost: then the voters say
which numbers the log has used (PROTOCOL section 6).
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from swarm.agent.config import OperatorConfig, load_operator_config, read_text_file
from swarm.agent.keyfile import read_key_file
from swarm.crypto.keys import KeyPair
from swarm.primitives.errors import ConfigError, StoreError, StoreGoneError, StoreHeldError
from swarm.primitives.ids import DeviceId
from swarm.storage.sqlite import SqliteStore, create_store
from swarm.transport.url import BrokerUrl
from swarm.wire.genesis import Genesis, parse_genesis


@dataclass(frozen=True, slots=True, kw_only=True)
class Operator:
    """Who a client is: its swarm, its name there, its key, where its state lies, and its broker."""

    genesis: Genesis
    me: DeviceId
    keypair: KeyPair
    state: Path
    broker: BrokerUrl
    apps: Mapping[str, str] = field(default_factory=dict)
    """Own applications: name -> `module:Class`."""
    source: str = field(default="operator", compare=False)
    """The file's name for messages."""


def load_operator(operator: str | os.PathLike[str] | OperatorConfig) -> Operator:
    """Read what an `operator.yaml` names and check that it fits together.

    Raises `ConfigError` on one line for files that are missing, unreadable, or of somebody else.
    """
    if isinstance(operator, OperatorConfig):
        config, source = operator, "operator"
    else:
        config, source = load_operator_config(Path(operator)), str(Path(operator))
    genesis = parse_genesis(read_text_file(config.genesis), str(config.genesis))
    member = genesis.member(config.device)
    if member is None or member.role != "operator":
        what = "no member" if member is None else f"a {member.role}"
        names = ", ".join(other.id for other in genesis.operators) or "none at all"
        raise ConfigError(
            f"{config.device} is {what} of swarm {genesis.swarm}, not an operator",
            where=f"{source}: device",
            hint=f"operators: {names}",
        )
    keypair = KeyPair(read_key_file(config.key))
    if keypair.public != member.key:
        raise ConfigError(f"{config.key} is not the key of {config.device}", where=f"{source}: key")
    return Operator(
        genesis=genesis,
        me=config.device,
        keypair=keypair,
        # Beside the key and named after it: two operator.yaml with one key share one state and one lock.
        state=config.key.with_suffix(".sqlite"),
        broker=config.broker.broker_url(source),
        apps=config.apps,
        source=source,
    )


def open_state(operator: Operator) -> SqliteStore:
    """Open and lock the operator's state; the first time, or after its loss, a new one is made.

    Raises `StoreHeldError` when another process has it, `StoreError` when it is damaged, with the way out.
    """
    path, me = operator.state, operator.me
    try:
        _create_once(operator)
        return SqliteStore(path, swarm_id=operator.genesis.id, device=me, key_public=operator.keypair.public)
    except StoreHeldError as error:
        raise StoreHeldError(
            f"{error.message}: {me} is in use",
            hint="wait for it to end, or give this one an operator of its own",
        ) from None
    except StoreGoneError as error:
        raise StoreError(
            f"{path}: {error.message}",
            hint=f"remove {path.name}* there; the voters then say which numbers {me} has used",
        ) from None


def _create_once(operator: Operator) -> None:
    """Create the state where there is none; two processes that start at once must not make two."""
    if operator.state.exists():
        return
    folder = operator.state.parent
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise StoreError(f"cannot open {folder}: {error.strerror}") from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        if not operator.state.exists():
            create_store(operator.state, operator.genesis.id, operator.me, operator.keypair.public)
    finally:
        os.close(descriptor)
