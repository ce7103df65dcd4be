"""`swarm init`: the files of a new swarm, complete in their folder or not there at all."""

from __future__ import annotations

import json
import re
import secrets
import shlex
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final
from urllib.parse import urlsplit

import typer

from swarm.agent.config import check_broker_url
from swarm.agent.keyfile import write_key_file
from swarm.cli.firmware.first import (
    RELEASE_FOLDER,
    NewKeys,
    firmware_line,
    first_release,
    launcher_command,
    new_keys,
    read_threshold,
    write_release_folder,
)
from swarm.cli.firmware.manifests import CLASS_DEFAULT, read_class
from swarm.cli.firmware.program import outfit_device
from swarm.cli.firmware.release_file import SUFFIX, ReleaseFile
from swarm.crypto.keys import SEED_BYTES, KeyPair
from swarm.primitives.errors import ConfigError
from swarm.primitives.ids import DeviceId, checked_name
from swarm.primitives.limits import MEMBERS_MAX, VOTERS_MAX
from swarm.primitives.quorum import PRESETS, Budget, budget_of
from swarm.primitives.settings import nearest_hint
from swarm.storage.lock import sync_folder
from swarm.storage.sqlite import create_store
from swarm.wire.genesis import APPS_DEFAULT, Genesis, Member, Role

BROKER_DEFAULT: Final = "mqtt://127.0.0.1:1883"
OPERATOR: Final[DeviceId] = "operator"
"""Id of the one operator, and the name of its folder."""

MEAN: Final = 21.0
NOISE: Final = 0.4
BIASES: Final = (-0.2, -0.1, 0.0, 0.1, 0.2)
"""What the example thermostats sense: the common mean, a bias of each device in turn, and noise."""

_AGENT_YAML: Final = """\
# The agent of {id}. Paths are relative to this file, so the folder can be moved to another machine as it is.
# Move it, never copy it: two agents with one key, or an old store brought back, make this device a liar.
genesis: genesis.json
device: {id}
key: {id}.key
store: {id}.sqlite
broker: {{url: {url}}}
# An example that senses {mean} {bias:+.1f} with noise; put your own behaviour here.
behaviours:
  - {{subject: temperature, kind: thermostat, mean: {mean}, bias: {bias}, noise: {noise}}}
"""

ROLLOUT_APP: Final = "rollout@1"

_APP: Final = re.compile(r"([a-z0-9-]{1,32})(@[1-9][0-9]{0,3})?(?:=([A-Za-z_][\w.]*:[A-Za-z_]\w*))?")
"""Name, version (1 if left out), and where its class is: `inventory@2=mypackage.inventory:Inventory`."""

_EXPLICIT_U: Final = re.compile(r"u=(-?[0-9]{1,9})|\{ *u *: *(-?[0-9]{1,9}) *\}")
"""An explicit budget, as an option or as a scenario file writes it."""

_OPERATOR_YAML: Final = """\
# An identity that opens decisions and submits, and never votes. Paths are relative to this file.
genesis: genesis.json
device: {id}
key: {id}.key
broker: {{url: {url}}}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Firmware:
    """What every device folder gets beside the rest."""

    keys: NewKeys
    release: ReleaseFile
    class_text: str


@dataclass(frozen=True, slots=True)
class _Identity:
    id: DeviceId
    role: Role
    seed: bytes
    public: bytes


def init(
    directory: Annotated[
        Path, typer.Argument(metavar="DIR", show_default=False, help="A folder that does not exist yet.")
    ],
    *,
    devices: Annotated[int, typer.Option("--devices", help="Voters: dev-0, dev-1, ...")],
    observers: Annotated[int, typer.Option("--observers", help="Devices that follow: obs-0, ...")] = 0,
    budget: Annotated[
        str, typer.Option("--budget", help="balanced, majority, crash, or u=N: how many voters may fail.")
    ] = "balanced",
    broker: Annotated[
        str | None, typer.Option("--broker", help=f"URL of the MQTT broker; {BROKER_DEFAULT} if left out.")
    ] = None,
    name: Annotated[
        str | None, typer.Option("--name", help="Name of the swarm; that of DIR if left out.")
    ] = None,
    app: Annotated[
        list[str] | None,
        typer.Option(
            "--app",
            metavar="NAME[=MODULE:CLASS]",
            help="An application of your own, in genesis and every agent.yaml; repeat for more.",
        ),
    ] = None,
    firmware: Annotated[
        str | None,
        typer.Option(
            "--firmware",
            metavar="K/N",
            help="Let the swarm update its devices: K of N new keys sign releases.",
        ),
    ] = None,
    class_: Annotated[
        str, typer.Option("--class", metavar="VENDOR/CLASS", help="What kind of device all of them are.")
    ] = CLASS_DEFAULT,
) -> None:
    """Make the files of a new swarm: genesis, one folder per device, an operator's folder."""
    target = _free_target(directory)
    limit = read_budget(devices, budget)
    if devices > VOTERS_MAX:
        raise ConfigError(f"at most {VOTERS_MAX} voters, {devices} given", where="--devices")
    if not 0 <= observers <= MEMBERS_MAX - devices - 1:
        raise ConfigError(f"must be 0 to {MEMBERS_MAX - devices - 1}, {observers} given", where="--observers")
    url = broker or BROKER_DEFAULT
    check_broker_url(url, "--broker")
    swarm = _name_after(target) if name is None else checked_name(name, where="--name", what="swarm")
    named, targets = read_apps(app or [])
    device_class = read_class(class_)
    keys = None if firmware is None else new_keys(read_threshold(firmware, "--firmware"))
    identities = _new_identities(devices, observers)
    members = tuple(Member(identity.id, identity.role, identity.public) for identity in identities)
    genesis = Genesis(
        swarm=swarm,
        u=limit.u,
        members=members,
        apps=(*APPS_DEFAULT, *named, *([] if keys is None else [ROLLOUT_APP])),
        release=None if keys is None else keys.for_genesis,
    )
    outfit = None
    if keys is not None:
        release = first_release(genesis, device_class, keys)
        outfit = _Firmware(keys=keys, release=release, class_text=class_)
    _build_whole(target, genesis, identities, url, targets, outfit)
    print("\n".join(describe_swarm(directory, genesis, url, is_own_broker=broker is None)))


def read_apps(texts: list[str]) -> tuple[tuple[str, ...], dict[str, str]]:
    """Return the `name@version` of applications for genesis, and name -> `module:Class` where that is given.

    Raises `ConfigError` for what is none, is listed twice, or is ours already.
    """
    named: dict[str, str] = {}
    targets: dict[str, str] = {}
    ours = [entry.partition("@")[0] for entry in (*APPS_DEFAULT, ROLLOUT_APP)]
    for text in texts:
        match = _APP.fullmatch(text)
        if match is None:
            raise ConfigError(
                f"{text!r} is no application",
                where="--app",
                hint="inventory, inventory@2 or inventory=mypackage.inventory:Inventory",
            )
        name = match[1]
        if name in ours:
            hint = "use --firmware K/N" if name == "rollout" else "leave it out, it is there anyway"
            raise ConfigError(f"{name!r} is built in", where="--app", hint=hint)
        if name in named:
            raise ConfigError(f"{name!r} is named twice", where="--app")
        named[name] = f"{name}{match[2] or '@1'}"
        if match[3]:
            targets[name] = match[3]
    return tuple(named.values()), targets


def read_budget(devices: int, text: str) -> Budget:
    """Return the budget of `--budget TEXT` for `devices` voters; raises `ConfigError` with the numbers."""
    if devices < 1:
        raise ConfigError(f"a swarm needs at least one voter, {devices} given", where="--devices")
    if match := _EXPLICIT_U.fullmatch(text):
        return budget_of(devices, int(match[1] or match[2]), where="--budget")
    if text not in PRESETS:
        raise ConfigError(
            f"unknown budget {text!r}", where="--budget", hint=nearest_hint(text, (*PRESETS, "u=1"))
        )
    return budget_of(devices, text, where="--budget")


# ------------------------------------------------------------------------------------------ writing


def _free_target(directory: Path) -> Path:
    """Return the absolute path of `directory` after checking that a swarm can be put there."""
    where = str(directory)
    target = directory.absolute()
    try:
        target = directory.resolve()
        if target.exists():
            if not target.is_dir():
                raise ConfigError("exists and is no folder", where=where, hint="choose another name")
            if any(target.iterdir()):
                raise ConfigError(
                    "exists and is not empty",
                    where=where,
                    hint="choose another name; nothing is ever overwritten",
                )
        if target == Path.cwd():
            raise ConfigError("is the current folder", where=where, hint="name a new one inside it")
        if not target.parent.is_dir():
            raise ConfigError(f"there is no folder {directory.parent}", where=where, hint="make it first")
    except (OSError, ValueError, RuntimeError) as error:
        raise ConfigError(f"cannot be used: {error}", where=where) from None
    return target


def _name_after(target: Path) -> str:
    """Return the swarm's name for a folder: its own, with what a name may not hold replaced."""
    return re.sub(r"[^a-z0-9-]+", "-", target.name.lower()).strip("-")[:32].strip("-") or "swarm"


def _new_identities(devices: int, observers: int) -> list[_Identity]:
    wanted: list[tuple[DeviceId, Role]] = [(f"dev-{index}", "voter") for index in range(devices)]
    wanted += [(f"obs-{index}", "observer") for index in range(observers)]
    wanted.append((OPERATOR, "operator"))
    identities = []
    for id, role in wanted:
        seed = secrets.token_bytes(SEED_BYTES)
        identities.append(_Identity(id, role, seed, KeyPair(seed).public))
    return identities


def _build_whole(
    target: Path,
    genesis: Genesis,
    identities: list[_Identity],
    url: str,
    apps: dict[str, str],
    firmware: _Firmware | None,
) -> None:
    """Write everything into a folder beside `target` and give it its name last."""
    try:
        draft = Path(tempfile.mkdtemp(prefix=f".{target.name}-", suffix=".new", dir=target.parent))
    except OSError as error:
        raise ConfigError(f"cannot be written: {error.strerror}", where=str(target.parent)) from None
    try:
        _write_public(draft / "genesis.json", genesis.to_json())
        for number, identity in enumerate(identities):
            bias = BIASES[number % len(BIASES)]
            text = _settings_of(identity, url, bias, apps, firmware)
            _write_member(draft / identity.id, genesis, identity, text)
            if firmware is not None and identity.role != "operator":
                outfit_device(draft / identity.id, firmware.release)
                sync_folder(draft / identity.id)
        if firmware is not None:
            write_release_folder(draft / RELEASE_FOLDER, firmware.keys, firmware.release)
        sync_folder(draft)
        # Onto an empty folder too; the system refuses one that has been filled meanwhile.
        draft.rename(target)
        sync_folder(target.parent)
    except OSError as error:
        raise ConfigError(f"cannot be written: {error.strerror or error}", where=str(target)) from None
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _settings_of(
    identity: _Identity, url: str, bias: float, apps: dict[str, str], firmware: _Firmware | None
) -> str:
    """Return the text of a member's own file."""
    # A JSON text is a quoted YAML text, whatever a URL holds.
    quoted = json.dumps(url)
    named = ", ".join(f"{name}: {target}" for name, target in apps.items())
    more = f"apps: {{{named}}}\n" if apps else ""
    if identity.role == "operator":
        return _OPERATOR_YAML.format(id=identity.id, url=quoted) + more
    text = _AGENT_YAML.format(id=identity.id, url=quoted, mean=MEAN, noise=NOISE, bias=bias)
    return text + more + ("" if firmware is None else firmware_line(firmware.class_text))


def _write_member(folder: Path, genesis: Genesis, identity: _Identity, settings: str) -> None:
    folder.mkdir(mode=0o700)
    _write_public(folder / "genesis.json", genesis.to_json())
    write_key_file(folder / f"{identity.id}.key", identity.seed)
    if identity.role == "operator":
        _write_public(folder / "operator.yaml", settings)
    else:
        _write_public(folder / "agent.yaml", settings)
        create_store(folder / f"{identity.id}.sqlite", genesis.id, identity.id, identity.public)
    sync_folder(folder)


def _write_public(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
    path.chmod(0o644)


# ------------------------------------------------------------------------------------------ telling


def describe_swarm(directory: Path, genesis: Genesis, url: str, *, is_own_broker: bool) -> list[str]:
    """Return the lines that `swarm init` prints: what the swarm survives, what lies where, and how to go on."""
    budget = genesis.budget
    runners = [member.id for member in (*genesis.voters, *genesis.observers)]
    folders = f"{directory}/{runners[0]}" + (f" ... {directory}/{runners[-1]}" if len(runners) > 1 else "")
    lines = [
        genesis.summary(),
        f"  u = {budget.u}: so many voters may fail in any way while decisions go on",
        f"  r = {budget.r}: so many voters may lie without two devices ever disagreeing",
        f"  q = {budget.q}: so many votes decide, and so many voters must be up",
        "",
        f"{directory}/genesis.json: who belongs to the swarm; goes to everybody who shall verify proofs",
        f"{folders}: one device each, with agent.yaml, key, sealed store and its own genesis.json;",
        "  move such a folder to its machine, never run it twice and never bring back an old copy",
        f"{directory}/{OPERATOR}: yours, to open decisions and to ask; with operator.yaml and key",
        *_describe_firmware(directory, genesis),
        "",
        f"Each agent.yaml has a thermostat as an example. It senses {MEAN} with a small bias of the device",
        f"({min(BIASES)} to {max(BIASES)}) and noise ({NOISE}), so their median comes out near {MEAN}.",
        "",
    ]
    lines += [
        f"Now start the broker at {url}, then, each in a terminal or on a machine of its own:"
        if broker_command(url) is None
        else "Now, each line in a terminal of its own:",
        "",
    ]
    if command := broker_command(url):
        lines.append(command if is_own_broker else f"{command}    # unless one runs there already")
    lines += [
        f"swarm agent {shlex.quote(f'{directory}/{id}/agent.yaml')}"
        if genesis.release is None
        else launcher_command(directory, id)
        for id in runners
    ]
    operator = shlex.quote(f"{directory}/{OPERATOR}/operator.yaml")
    lines.append(f"swarm decide temperature --rule median --scale 2 --as {operator}")
    if genesis.release is not None:
        lines.append(f"swarm firmware status --as {operator}")
    return lines


def _describe_firmware(directory: Path, genesis: Genesis) -> list[str]:
    keys = genesis.release
    if keys is None:
        return []
    return [
        f"{directory}/{RELEASE_FOLDER}: {len(keys.keys)} release keys, {keys.k} of them sign a release;",
        "  give each to somebody else, and keep them off the devices;",
        f"  1{SUFFIX} is what the devices run now: this very program, sealed in their first slot",
    ]


def broker_command(url: str) -> str | None:
    """Return the command that starts the embedded broker at `url`; None where only another broker can be."""
    parts = urlsplit(url)
    if parts.scheme != "mqtt" or parts.hostname not in {"127.0.0.1", "localhost"}:
        return None
    port = parts.port or 1883
    return "swarm broker" if port == 1883 else f"swarm broker --port {port}"
