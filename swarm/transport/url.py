"""Where the broker is and how to log in there, from the `broker:` part of `agent.yaml` or from `--broker`."""

from __future__ import annotations

import os
import ssl
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import SplitResult, urlsplit

from swarm.primitives.errors import ConfigError

_PORTS: Final = {"mqtt": 1883, "mqtts": 8883}
_PASSWORD_BYTES_MAX: Final = 4096
_HINT: Final = "mqtt://HOST:PORT or mqtts://HOST:PORT"


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerUrl:
    """A checked broker address with its login and TLS files; made by `parse_broker`.

    The password is kept out of `repr`, so that it reaches no log.
    """

    host: str
    port: int
    tls: bool = False
    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None
    username: str | None = None
    password: str | None = field(default=None, repr=False)

    def __str__(self) -> str:
        """Return the URL without login, for people."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'mqtts' if self.tls else 'mqtt'}://{host}:{self.port}"


def parse_broker(
    url: str,
    *,
    where: str = "broker",
    ca: Path | None = None,
    cert: Path | None = None,
    key: Path | None = None,
    username: str | None = None,
    password_file: Path | None = None,
) -> BrokerUrl:
    """Check a broker's URL and files, and read the password.

    `where` is the place to name in errors (`agent.yaml: broker`); paths are already resolved by the caller.
    Raises `ConfigError` for a URL of another form, for TLS files with plain `mqtt://`, for a file that is missing
    or not usable, and for a password file that others than its owner may read.
    """
    parts, port = _split(url, where=where)
    tls = parts.scheme == "mqtts"
    if not tls and (ca or cert or key):
        raise ConfigError(f"ca, cert and key need mqtts://, not {url!r}", where=where)
    if (cert is None) != (key is None):
        raise ConfigError("cert and key belong together, only one is given", where=where)
    if password_file is not None and username is None:
        raise ConfigError("password_file without username", where=where)
    broker = BrokerUrl(
        host=parts.hostname or "",
        port=port,
        tls=tls,
        ca=ca,
        cert=cert,
        key=key,
        username=username,
        password=None
        if password_file is None
        else _read_password(password_file, where=f"{where}.password_file"),
    )
    tls_context(broker, where=where)
    return broker


def tls_context(broker: BrokerUrl, *, where: str = "broker") -> ssl.SSLContext | None:
    """Return the TLS settings of `broker`, None for a plain connection; the broker's name is always checked.

    Without `ca` the system's certificate authorities are trusted. Raises `ConfigError` for unusable files.
    """
    if not broker.tls:
        return None
    try:
        context = ssl.create_default_context(cafile=broker.ca)
        context.sslsocket_class = _TidySocket
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if broker.cert is not None:
            context.load_cert_chain(broker.cert, broker.key)
    except (OSError, ValueError) as error:
        files = ", ".join(str(path) for path in (broker.ca, broker.cert, broker.key) if path is not None)
        raise ConfigError(f"cannot use the TLS files {files}: {error}", where=where) from error
    return context


class _TidySocket(ssl.SSLSocket):
    """Closes itself when the handshake fails; paho forgets it then, and an agent that keeps trying would pile them up."""

    def do_handshake(self, block: bool = False) -> None:
        try:
            super().do_handshake(block)
        except ssl.SSLWantReadError:
            raise
        except OSError:
            self.close()
            raise


def _split(url: str, *, where: str) -> tuple[SplitResult, int]:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise ConfigError(f"broker URL {url!r}: {error}", where=where, hint=_HINT) from error
    if parts.scheme not in _PORTS:
        raise ConfigError(f"broker URL {url!r} has no known scheme", where=where, hint=_HINT)
    if parts.username is not None or parts.password is not None:
        # The URL itself is not repeated: it holds the secret.
        raise ConfigError(
            "broker URL with a login in it", where=where, hint="use the keys username and password_file"
        )
    if not parts.hostname or any(letter.isspace() for letter in url):
        raise ConfigError(f"broker URL {url!r} names no host", where=where, hint=_HINT)
    if parts.path not in ("", "/") or parts.query or parts.fragment:
        raise ConfigError(f"broker URL {url!r} goes on after the port", where=where, hint=_HINT)
    if port == 0:
        raise ConfigError(f"broker URL {url!r}: port 0 is no port", where=where, hint=_HINT)
    return parts, port if port is not None else _PORTS[parts.scheme]


def _read_password(path: Path, *, where: str) -> str:
    try:
        with path.open("rb") as file:
            # Asked of the open file, not of the path: nobody can swap it in between.
            mode = os.fstat(file.fileno()).st_mode
            raw = file.read(_PASSWORD_BYTES_MAX + 1)
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}", where=where) from error
    if mode & 0o077:
        raise ConfigError(
            f"{path} may be read by others than its owner", where=where, hint=f"chmod 600 {path}"
        )
    try:
        password = raw.decode().removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8 text", where=where) from error
    if not password or "\n" in password or len(raw) > _PASSWORD_BYTES_MAX:
        raise ConfigError(f"{path} holds no single line of at most {_PASSWORD_BYTES_MAX} bytes", where=where)
    return password
