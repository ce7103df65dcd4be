"""Makes an agent of what `agent.yaml` says: every mistake is one line that names file and key."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from swarm.agent.agent import Agent
from swarm.agent.config import AgentConfig, read_text_file
from swarm.agent.firmware_config import FirmwareSettings
from swarm.agent.keyfile import read_key_file
from swarm.agent.machine import Machine
from swarm.agent.own_apps import import_apps
from swarm.agent.presence import sign_presence
from swarm.agent.threads import DiskPace
from swarm.apps.rollout.app import Rollout
from swarm.apps.router import Router
from swarm.behaviours.behaviour import BehaviourContext
from swarm.behaviours.loader import load_behaviours
from swarm.crypto.keys import KeyPair
from swarm.crypto.signing import verify
from swarm.device.delivery.ring import chunk_peers
from swarm.device.device import Device, DeviceConfig
from swarm.device.firmware.installer import Installer
from swarm.device.turn import DeviceEvent
from swarm.install.directory import DirectoryBackend
from swarm.install.filesystem import RealFileSystem
from swarm.install.lifeline import Lifeline
from swarm.primitives.errors import ConfigError
from swarm.primitives.ids import DeviceId
from swarm.primitives.settings import nearest_hint
from swarm.storage.signers import check_restored
from swarm.storage.sqlite import SqliteStore
from swarm.storage.store import Batch
from swarm.transport.mqtt import MqttTransport, Presence
from swarm.transport.transport import ConnectionState, Inbox, Transport
from swarm.transport.url import BrokerUrl
from swarm.wire.genesis import Genesis, Member, parse_genesis

WrapTransport = Callable[[Callable[[Inbox], Transport], Inbox], Transport]
"""Stands between inbox and transport (`lab/processes/impaired`): gets the maker of the transport and the inbox."""


class TimedStore(SqliteStore):
    """The store on a disk, telling how long each synced commit took."""

    def __init__(
        self, path: Path, pace: DiskPace, *, swarm_id: bytes, device: str, key_public: bytes
    ) -> None:
        """Open as `SqliteStore` does; `pace` hears the times."""
        self._pace = pace
        super().__init__(path, swarm_id=swarm_id, device=device, key_public=key_public)

    def commit(self, batch: Batch) -> None:
        """Commit and note the time; errors as in `SqliteStore.commit`."""
        began_s = time.perf_counter()
        super().commit(batch)
        self._pace.note((time.perf_counter() - began_s) * 1000)


def build_agent(
    config: AgentConfig,
    *,
    source: str,
    random: Callable[[], float],
    version: str = "",
    behaviour_seed: int | None = None,
    wrap_transport: WrapTransport | None = None,
    lifeline: Lifeline | None = None,
    on_event: Callable[[DeviceEvent], None] = lambda _event: None,
    on_link: Callable[[ConnectionState], None] = lambda _state: None,
) -> Agent:
    """Return the agent of `config`, ready to run; its store is open and locked from here on.

    `source` is the file's name for messages; `random` gives numbers in [0, 1) for the pauses between attempts to
    connect. Behaviours draw their noise from `behaviour_seed`, or from the device's key. `lifeline` is the launcher's,
    where one started this process: without it the agent votes on firmware and is not updated itself.

    Raises `ConfigError` for files that do not fit each other, and `StoreError` for a store that is missing, held,
    foreign or broken.
    """
    genesis = parse_genesis(read_text_file(config.genesis), str(config.genesis))
    keypair = KeyPair(read_key_file(config.key))
    member = _device_member(config, genesis, keypair, source)
    broker = config.broker.broker_url(source)
    machine = _machine_of(config.firmware, genesis, lifeline, source)
    router = _make_router(config, genesis, source)
    now_ms = time.monotonic_ns() // 1_000_000
    seed = int.from_bytes(keypair.public[:8], "big") if behaviour_seed is None else behaviour_seed
    behaviours = load_behaviours(
        config.behaviours,
        BehaviourContext(device=config.device, seed=seed, simulated=False, now_ms=now_ms),
        where=f"{source}: behaviours",
    )
    pace = DiskPace()
    store = TimedStore(
        config.store, pace, swarm_id=genesis.id, device=config.device, key_public=keypair.public
    )
    try:
        check_restored(config.store, store.load(), genesis)
        device = _make_device(config, genesis, keypair, store, router, version, now_ms)
        presence = sign_presence(genesis.id, config.device, keypair, device.boot)

        def make_transport(inbox: Inbox, on_state: Callable[[ConnectionState], None]) -> Transport:
            def connect_to(into: Inbox) -> Transport:
                return _connect(genesis, member, broker, presence, into, random, on_state)

            return connect_to(inbox) if wrap_transport is None else wrap_transport(connect_to, inbox)

        return Agent(
            device=device,
            store=store,
            genesis=genesis,
            me=config.device,
            make_transport=make_transport,
            behaviours=behaviours,
            pace=pace,
            machine=machine,
            on_event=on_event,
            on_link=on_link,
        )
    except BaseException:
        store.close()
        raise


def _make_router(config: AgentConfig, genesis: Genesis, source: str) -> Router:
    extra = import_apps(config.apps, genesis, source)
    try:
        return Router(genesis.apps, extra)
    except ConfigError as error:
        # The router knows no files. A class that cannot be built has said already where it is named.
        where = error.where if error.where.startswith(source) else f"{config.genesis}: {error.where}"
        raise ConfigError(error.message, where=where, hint=error.hint) from None


def _make_device(
    config: AgentConfig,
    genesis: Genesis,
    keypair: KeyPair,
    store: TimedStore,
    router: Router,
    version: str,
    now_ms: int,
) -> Device:
    about = DeviceConfig(
        genesis=genesis,
        me=config.device,
        keypair=keypair,
        delta_floor_ms=config.timing.delta_floor_ms,
        delta_cap_ms=config.timing.delta_cap_ms,
        version=version,
    )
    firmware = None if config.firmware is None else config.firmware.firmware
    return Device(about, store, router, verify, now_ms, firmware=firmware)


def _machine_of(
    firmware: FirmwareSettings | None, genesis: Genesis, lifeline: Lifeline | None, source: str
) -> Machine:
    """Return what the agent runs on: the slots and the launcher that the file and the environment name."""
    if firmware is None:
        return Machine(None, lifeline, has_self_test=False)
    where = f"{source}: firmware"
    if genesis.release is None or not any(app.partition("@")[0] == Rollout.name for app in genesis.apps):
        raise ConfigError(
            "genesis has no release keys, so this swarm takes no firmware",
            where=where,
            hint="remove the section, or make a swarm with `swarm init --firmware K/N`",
        )
    if lifeline is None:
        return Machine(None, None)
    if firmware.root is not None and firmware.root.resolve() != Path(lifeline.root).resolve():
        raise ConfigError(
            f"{firmware.root} is not where the launcher's slots are: {lifeline.root}", where=f"{where}.root"
        )
    backend = DirectoryBackend(
        RealFileSystem(),
        lifeline.root,
        booted=lifeline.slot,
        vendor=firmware.vendor,
        device_class=firmware.device_class,
    )
    return Machine(Installer(backend), lifeline)


def _connect(
    genesis: Genesis,
    member: Member,
    broker: BrokerUrl,
    presence: Presence,
    inbox: Inbox,
    random: Callable[[], float],
    on_state: Callable[[ConnectionState], None],
) -> MqttTransport:
    return MqttTransport(
        broker=broker,
        swarm=genesis.swarm,
        me=member.id,
        members=_heard_members(genesis, member),
        inbox=inbox,
        random=random,
        presence=presence,
        on_state=on_state,
    )


def _device_member(config: AgentConfig, genesis: Genesis, keypair: KeyPair, source: str) -> Member:
    """Return the member that this device is, after checking that the key says so too."""
    member = genesis.member(config.device)
    if member is None:
        known = [m.id for m in (*genesis.voters, *genesis.observers)]
        raise ConfigError(
            f"{config.device!r} is no member of {config.genesis}",
            where=f"{source}: device",
            hint=nearest_hint(config.device, known),
        )
    if member.role == "operator":
        raise ConfigError(
            f"{config.device!r} is an operator, who runs no device",
            where=f"{source}: device",
            hint="operators use `swarm decide`, `swarm submit` and `swarm status`",
        )
    if member.key != keypair.public:
        owner = next((m.id for m in genesis.members if m.key == keypair.public), None)
        belongs = f"it is the key of {owner}" if owner else f"no member of {config.genesis} has it"
        raise ConfigError(
            f"{config.key} is not the key of {config.device}: {belongs}", where=f"{source}: key"
        )
    return member


def _heard_members(genesis: Genesis, member: Member) -> tuple[DeviceId, ...]:
    """Return whom to listen to: a voter to every member, an observer to the voters (CONTRACTS, "Topics").

    Where there is firmware an observer listens to its neighbours too, who ask it for chunks as it asks them.
    """
    if member.role == "voter":
        return tuple(other.id for other in genesis.members)
    peers = () if genesis.release is None else chunk_peers(genesis, member.id)
    return (*genesis.voter_ids, *peers)
