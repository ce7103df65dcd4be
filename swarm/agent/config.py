"""`agent.yaml` and `operator.yaml`: where a device or an operator finds genesis, key, store and broker.

Paths in these files are relative to the file's own folder, so that a device's folder can be copied as a whole.
Nothing here opens what the paths name: a missing key or store is reported by the module that needs it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Final
from urllib.parse import urlsplit

import msgspec

from swarm.agent.firmware_config import FirmwareSettings, read_firmware
from swarm.primitives.errors import ConfigError
from swarm.primitives.ids import checked_name
from swarm.primitives.limits import BEHAVIOURS_MAX
from swarm.primitives.settings import (
    Name,
    Node,
    PositiveMs,
    Reads,
    Scalar,
    convert,
    entries_of,
    format_duration_ms,
    read_mapping,
    read_options,
)
from swarm.transport.url import BrokerUrl, parse_broker

DELTA_FLOOR_MS_DEFAULT: Final = 50
"""The shortest Δ (PROTOCOL R1) unless the file says otherwise."""

DELTA_CAP_MS_DEFAULT: Final = 10_000
"""The longest Δ (PROTOCOL R1) unless the file says otherwise."""

BEHAVIOUR_KEYS_RESERVED: Final = ("device", "seed")
"""What a behaviour gets from its host, so that no file can contradict it."""

_KINDS_WITH_PATH: Final = ("csv", "file")
"""Built-in behaviours whose option `path` names a file, relative to the settings file like every other path."""

_MODULE_AND_CLASS = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")
_KIND = re.compile(r"[a-z0-9-]{1,32}")
_DEFAULT_PORTS: Final = {"mqtt": 1883, "mqtts": 8883}


def read_behaviour(node: Node, *, kind_needed: bool = True) -> Mapping[str, Scalar]:
    """Return a behaviour block `{kind: ..., subject: ..., option: value, ...}` after checking its shape.

    `kind` is a built-in's name or `module:Class`; without `subject` the behaviour answers every subject. The
    options themselves are judged by the behaviour when it is loaded. Raises `ConfigError` with the key's path.
    """
    block = dict(read_options(node))
    entries = entries_of(node)
    for key in BEHAVIOUR_KEYS_RESERVED:
        if key in entries:
            raise entries[key].error(f"{key!r} is reserved; the behaviour gets it from its device")
    if "kind" in block:
        kind = convert(entries["kind"], str)
        if not _KIND.fullmatch(kind) and not _MODULE_AND_CLASS.fullmatch(kind):
            raise entries["kind"].error(f"{kind!r} is neither a built-in kind nor module:Class")
    elif kind_needed:
        raise ConfigError("is missing", where=node.locate("kind"), hint="a built-in kind or module:Class")
    if "subject" in block:
        checked_name(convert(entries["subject"], str), where=entries["subject"].where, what="subject")
    path = block.get("path")
    if isinstance(path, str) and block.get("kind", "file") in _KINDS_WITH_PATH:
        block["path"] = str(_resolve(node, "path", path, Path(node.source).parent))
    return block


def _read_module_and_class(node: Node) -> str:
    text = convert(node, str)
    if not _MODULE_AND_CLASS.fullmatch(text):
        raise node.error(f"{text!r} is not module:Class", hint="mypackage.inventory:Inventory")
    return text


BehaviourBlock = Annotated[Mapping[str, Scalar], Reads(read_behaviour)]
ModuleAndClass = Annotated[str, Reads(_read_module_and_class)]


class BrokerSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How to reach a broker; nothing in it gives any trust, see PROTOCOL section 1.

    `ca`, `cert` and `key` belong to TLS only (`mqtts`) and have nothing to do with the device's signing key.
    """

    url: str
    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None
    username: str | None = None
    password_file: Path | None = None

    def broker_url(self, source: str) -> BrokerUrl:
        """Return what the transport connects to; raises `ConfigError` at `source` for what cannot be one."""
        return parse_broker(
            self.url,
            where=f"{source}: broker",
            ca=self.ca,
            cert=self.cert,
            key=self.key,
            username=self.username,
            password_file=self.password_file,
        )

    @property
    def tls(self) -> bool:
        """Whether the connection is encrypted."""
        return urlsplit(self.url).scheme == "mqtts"

    @property
    def host(self) -> str:
        """Name or address of the broker."""
        return urlsplit(self.url).hostname or ""

    @property
    def port(self) -> int:
        """Port of the broker, 1883 or 8883 when the URL names none."""
        parts = urlsplit(self.url)
        return parts.port or _DEFAULT_PORTS[parts.scheme]


class Timing(msgspec.Struct, frozen=True, kw_only=True):
    """The bounds of the adaptive Δ (PROTOCOL R1)."""

    delta_floor_ms: PositiveMs = msgspec.field(name="delta_floor", default=DELTA_FLOOR_MS_DEFAULT)
    delta_cap_ms: PositiveMs = msgspec.field(name="delta_cap", default=DELTA_CAP_MS_DEFAULT)


class AgentConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that `agent.yaml` says; paths are resolved."""

    genesis: Path
    device: str
    key: Path
    store: Path
    broker: BrokerSettings
    behaviours: tuple[Mapping[str, Scalar], ...] = ()
    apps: Mapping[str, str] = {}
    timing: Timing = Timing()
    firmware: FirmwareSettings | None = None


class OperatorConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that `operator.yaml` says; paths are resolved."""

    genesis: Path
    device: str
    key: Path
    broker: BrokerSettings
    apps: Mapping[str, str] = {}
    """Own applications, which only a replay of the log needs (`swarm firmware`)."""


class _BrokerKeys(msgspec.Struct, frozen=True, kw_only=True):
    url: str
    ca: str | None = None
    cert: str | None = None
    key: str | None = None
    username: str | None = None
    password_file: str | None = None


class _AgentKeys(msgspec.Struct, frozen=True, kw_only=True):
    genesis: str
    device: Name
    key: str
    store: str
    broker: _BrokerKeys
    behaviours: tuple[BehaviourBlock, ...] = ()
    apps: Mapping[str, ModuleAndClass] = {}
    timing: Timing = Timing()
    firmware: Node | None = None
    metrics: Node | None = None


class _OperatorKeys(msgspec.Struct, frozen=True, kw_only=True):
    genesis: str
    device: Name
    key: str
    broker: _BrokerKeys
    apps: Mapping[str, ModuleAndClass] = {}


def read_text_file(path: Path | str) -> str:
    """Return the UTF-8 text of a settings file, else raise `ConfigError` that says why it cannot be read."""
    try:
        return Path(path).read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise ConfigError("is not YAML: it is no UTF-8 text", where=str(path)) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"cannot be read: {reason}", where=str(path)) from None


def load_agent_config(path: Path | str) -> AgentConfig:
    """Read and check an `agent.yaml`.

    Raises `ConfigError` on one line with file, line and key path; the caller prints it and exits with 2.
    """
    return parse_agent_config(read_text_file(path), path)


def parse_agent_config(text: str, path: Path | str) -> AgentConfig:
    """Check the `text` of an `agent.yaml` that stands at `path`; errors as in `load_agent_config`."""
    root = read_mapping(text, str(path))
    keys = convert(root, _AgentKeys)
    if keys.metrics is not None:
        raise ConfigError(
            "is not supported yet by this version", where=root.locate("metrics"), hint="remove the line"
        )
    if len(keys.behaviours) > BEHAVIOURS_MAX:
        raise ConfigError(f"more than {BEHAVIOURS_MAX} behaviours", where=root.locate("behaviours"))
    for name in keys.apps:
        checked_name(name, where=root.locate("apps", name), what="application")
    if keys.timing.delta_floor_ms > keys.timing.delta_cap_ms:
        floor, cap = keys.timing.delta_floor_ms, keys.timing.delta_cap_ms
        raise ConfigError(
            f"delta_floor {format_duration_ms(floor)} is above delta_cap {format_duration_ms(cap)}",
            where=root.locate("timing", "delta_floor"),
        )
    folder = Path(path).parent
    return AgentConfig(
        genesis=_resolve(root, "genesis", keys.genesis, folder),
        device=keys.device,
        key=_resolve(root, "key", keys.key, folder),
        store=_resolve(root, "store", keys.store, folder),
        broker=_broker_of(root, keys.broker, folder),
        behaviours=keys.behaviours,
        apps=keys.apps,
        timing=keys.timing,
        firmware=None if keys.firmware is None else read_firmware(keys.firmware, folder),
    )


def load_operator_config(path: Path | str) -> OperatorConfig:
    """Read and check an `operator.yaml`; errors as in `load_agent_config`."""
    return parse_operator_config(read_text_file(path), path)


def parse_operator_config(text: str, path: Path | str) -> OperatorConfig:
    """Check the `text` of an `operator.yaml` that stands at `path`; errors as in `load_agent_config`."""
    root = read_mapping(text, str(path))
    keys = convert(root, _OperatorKeys)
    folder = Path(path).parent
    return OperatorConfig(
        genesis=_resolve(root, "genesis", keys.genesis, folder),
        device=keys.device,
        key=_resolve(root, "key", keys.key, folder),
        broker=_broker_of(root, keys.broker, folder),
        apps=keys.apps,
    )


def check_broker_url(url: str, where: str) -> None:
    """Raise `ConfigError` unless `url` is `mqtt://HOST[:PORT]` or `mqtts://HOST[:PORT]` and nothing more."""
    hint = "mqtt://127.0.0.1:1883 or mqtts://broker:8883"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ConfigError(f"{url!r} is no broker URL", where=where, hint=hint) from None
    if parts.scheme not in _DEFAULT_PORTS or not parts.hostname or port == 0:
        raise ConfigError(f"{url!r} is no broker URL", where=where, hint=hint)
    if parts.username is not None or parts.password is not None:
        # the URL itself may hold the password, so it is not repeated in the message
        raise ConfigError("a broker URL holds no login", where=where, hint="use username and password_file")
    if parts.path not in {"", "/"} or parts.query or parts.fragment:
        raise ConfigError(f"{url!r} is more than scheme, host and port", where=where, hint=hint)


def _broker_of(root: Node, keys: _BrokerKeys, folder: Path) -> BrokerSettings:
    def refuse(key: str, message: str) -> ConfigError:
        return ConfigError(message, where=root.locate("broker", key))

    def path_of(key: str, text: str | None) -> Path | None:
        return None if text is None else _resolve(root, f"broker.{key}", text, folder)

    check_broker_url(keys.url, root.locate("broker", "url"))
    broker = BrokerSettings(
        url=keys.url,
        ca=path_of("ca", keys.ca),
        cert=path_of("cert", keys.cert),
        key=path_of("key", keys.key),
        username=keys.username,
        password_file=path_of("password_file", keys.password_file),
    )
    for key, value in (("ca", keys.ca), ("cert", keys.cert), ("key", keys.key)):
        if value is not None and not broker.tls:
            raise refuse(key, f"{key!r} needs an mqtts:// URL")
    if (keys.cert is None) != (keys.key is None):
        raise refuse("cert" if keys.key is None else "key", "'cert' and 'key' go together")
    if keys.password_file is not None and keys.username is None:
        raise refuse("password_file", "'password_file' needs 'username'")
    return broker


def _resolve(root: Node, key: str, text: str, folder: Path) -> Path:
    """Return the path `text`, relative to the folder of the file that names it."""
    if not text or "\0" in text:
        raise ConfigError("must be a path", where=root.locate(*key.split(".")))
    return folder / text
