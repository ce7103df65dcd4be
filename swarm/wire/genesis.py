"""The genesis file: who belongs to a swarm, with which key and role, and how many of them may fail.

The swarm id is the digest of its canonical wire form, so the spacing of the file and the order of its lists do not
matter, and a signature made for one swarm never fits another.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import cached_property
from typing import Final, Literal, NoReturn, cast

from swarm.crypto.digest import sha256, tagged_sha256
from swarm.crypto.keys import PUBLIC_KEY_BYTES
from swarm.crypto.signing import is_canonical_key
from swarm.primitives.errors import ConfigError
from swarm.primitives.ids import DeviceId, is_name
from swarm.primitives.limits import (
    GENESIS_APPS_MAX,
    GENESIS_BYTES_MAX,
    MEMBERS_MAX,
    RELEASE_KEYS_MAX,
    SNAPSHOT_EVERY_DEFAULT,
    SNAPSHOT_EVERY_MAX,
    VOTERS_MAX,
)
from swarm.primitives.quorum import Budget
from swarm.primitives.settings import nearest_hint
from swarm.wire.codec import encode

Role = Literal["voter", "observer", "operator"]

ROLES: Final[tuple[Role, ...]] = ("voter", "observer", "operator")
"""`observer` follows and may submit and ballot; `operator` is a person's or a program's identity, never votes."""

APPS_DEFAULT: Final = ("decisions@1", "notes@1")

_APP: Final = re.compile(r"([a-z0-9-]{1,32})@([1-9][0-9]{0,3})")
_HEX_KEY: Final = re.compile(r"[0-9a-f]{64}")
_KEYS: Final = ("swarm", "u", "snapshot_every", "apps", "members", "release")
_MEMBER_KEYS: Final = ("id", "role", "key")
_RELEASE_KEYS: Final = ("k", "keys")

KEY_ID_BYTES: Final = 8
"""A signature list names a key by the first bytes of its SHA-256."""


@dataclass(frozen=True, slots=True)
class Member:
    """One identity of a swarm: its id, what it may do, and its Ed25519 public key (32 bytes)."""

    id: DeviceId
    role: Role
    key: bytes


@dataclass(frozen=True, slots=True)
class ReleaseKeys:
    """Who may sign firmware: `k` of `keys` (Ed25519, 32 bytes each) make a release; `keys` get sorted."""

    k: int
    keys: tuple[bytes, ...]

    def __post_init__(self) -> None:
        """Check and sort; raises `ConfigError` with the key's path inside `release`."""
        if not 1 <= len(self.keys) <= RELEASE_KEYS_MAX:
            _refuse(f"1 to {RELEASE_KEYS_MAX} keys sign releases, {len(self.keys)} given", "release.keys")
        if not 1 <= self.k <= len(self.keys):
            _refuse(f"{self.k} of {len(self.keys)} keys cannot sign", "release.k")
        seen: dict[bytes, int] = {}
        for index, key in enumerate(self.keys):
            path = f"release.keys[{index}]"
            if not is_canonical_key(key):
                _refuse("not a usable Ed25519 public key", path)
            # Two keys under one name would let one signature count for either.
            first = seen.setdefault(key_id(key), index)
            if first != index:
                _refuse(f"the same key as release.keys[{first}]", path)
        object.__setattr__(self, "keys", tuple(sorted(self.keys)))


def key_id(key: bytes) -> bytes:
    """Return the id (8 bytes) under which a signature list names `key`."""
    return sha256(key)[:KEY_ID_BYTES]


@dataclass(frozen=True, kw_only=True)
class Genesis:
    """A checked genesis; raises `ConfigError` with the key's path when anything in it cannot be.

    `members` and `apps` (`name@version`) are sorted, whatever order they were given in. Without slots, because
    what follows from the fields is computed once and kept.
    """

    swarm: str
    u: int
    members: tuple[Member, ...]
    snapshot_every: int = SNAPSHOT_EVERY_DEFAULT
    apps: tuple[str, ...] = APPS_DEFAULT
    release: ReleaseKeys | None = None
    """First release keys; without them firmware is refused."""

    def __post_init__(self) -> None:
        """Check everything, in the order in which the user listed it, then sort."""
        _check_name(self.swarm, "swarm")
        if not 1 <= self.snapshot_every <= SNAPSHOT_EVERY_MAX:
            _refuse(f"{self.snapshot_every} is not 1 to {SNAPSHOT_EVERY_MAX}", "snapshot_every")
        _check_apps(self.apps)
        _check_members(self.members)
        object.__setattr__(self, "members", tuple(sorted(self.members, key=lambda member: member.id)))
        object.__setattr__(self, "apps", tuple(sorted(self.apps)))
        if not 1 <= len(self.voters) <= VOTERS_MAX:
            _refuse(f"a swarm has 1 to {VOTERS_MAX} voters, {len(self.voters)} given", "members")
        try:
            Budget(len(self.voters), self.u)
        except ConfigError as error:
            raise ConfigError(error.message, where="u", hint=error.hint) from None

    @cached_property
    def id(self) -> bytes:
        """The swarm id (32 bytes): tagged SHA-256 of the canonical msgpack of all fields."""
        members = [(member.id, ROLES.index(member.role), member.key) for member in self.members]
        wire: tuple[object, ...] = (self.swarm, self.u, self.snapshot_every, self.apps, members)
        if self.release is not None:
            # Only then: swarms without firmware keep the id that they had before there was any.
            wire = (*wire, (self.release.k, self.release.keys))
        return tagged_sha256("swarm/1 genesis", encode(wire))

    @cached_property
    def voters(self) -> tuple[Member, ...]:
        """The voters sorted by id: a voter's place here is its index in every certificate."""
        return tuple(member for member in self.members if member.role == "voter")

    @cached_property
    def observers(self) -> tuple[Member, ...]:
        """The observers sorted by id."""
        return tuple(member for member in self.members if member.role == "observer")

    @cached_property
    def operators(self) -> tuple[Member, ...]:
        """The operators sorted by id."""
        return tuple(member for member in self.members if member.role == "operator")

    @cached_property
    def budget(self) -> Budget:
        """How many voters may fail or lie."""
        return Budget(len(self.voters), self.u)

    @cached_property
    def voter_ids(self) -> tuple[DeviceId, ...]:
        """Ids of the voters, in the order of their indices."""
        return tuple(member.id for member in self.voters)

    @cached_property
    def voter_keys(self) -> tuple[bytes, ...]:
        """Public keys (32 bytes each) of the voters, in the order of their indices."""
        return tuple(member.key for member in self.voters)

    @cached_property
    def _by_id(self) -> dict[DeviceId, Member]:
        return {member.id: member for member in self.members}

    @cached_property
    def _index_by_id(self) -> dict[DeviceId, int]:
        return {member.id: index for index, member in enumerate(self.voters)}

    def member(self, id: DeviceId) -> Member | None:
        """Return the member with this id, or None."""
        return self._by_id.get(id)

    def voter_index(self, id: DeviceId) -> int | None:
        """Return the index of voter `id` in certificates, or None for everybody else."""
        return self._index_by_id.get(id)

    def to_json(self) -> str:
        """Return the text of the genesis file; `parse_genesis` gives back an equal genesis."""
        members = [{"id": member.id, "role": member.role, "key": member.key.hex()} for member in self.members]
        head = {
            "swarm": self.swarm,
            "u": self.u,
            "snapshot_every": self.snapshot_every,
            "apps": list(self.apps),
        }
        lines = [f" {json.dumps(key)}: {json.dumps(value)}," for key, value in head.items()]
        if self.release is not None:
            keys = [key.hex() for key in self.release.keys]
            lines.append(f' "release": {json.dumps({"k": self.release.k, "keys": keys})},')
        rows = ",\n".join(f"  {json.dumps(member)}" for member in members)
        return "{\n" + "\n".join(lines) + f'\n "members": [\n{rows}\n ]\n}}\n'

    def summary(self) -> str:
        """Say in words what the swarm is and what its budget survives."""
        counts = [f"{len(self.voters)} voter{'s' if len(self.voters) != 1 else ''}"]
        for role, members in (("observer", self.observers), ("operator", self.operators)):
            if members:
                counts.append(f"{len(members)} {role}{'s' if len(members) != 1 else ''}")
        return f"swarm {self.swarm} ({self.id[:4].hex()}): {', '.join(counts)}; {self.budget.in_words()}"


# ------------------------------------------------------------------------------------------ reading the file


def parse_genesis(text: str, source: str = "genesis.json") -> Genesis:
    """Return the genesis in the JSON `text`; `source` is the file's name for messages.

    Raises `ConfigError` with the file and the path of the key (`genesis.json: members[2].key`) for anything that
    is missing, unknown, of a wrong type, or impossible.
    """
    try:
        return _genesis_from(_load(text))
    except ConfigError as error:
        where = f"{source}: {error.where}" if error.where else source
        raise ConfigError(error.message, where=where, hint=error.hint) from None


def _genesis_from(data: dict[str, object]) -> Genesis:
    _check_keys(data, _KEYS, required=("swarm", "u", "members"), path="")
    apps = data.get("apps", list(APPS_DEFAULT))
    if not isinstance(apps, list):
        _refuse("expected a list of name@version", "apps")
    members = data["members"]
    if not isinstance(members, list):
        _refuse("expected a list of members", "members")
    if len(members) > MEMBERS_MAX:
        _refuse(f"a swarm has at most {MEMBERS_MAX} members, {len(members)} given", "members")
    return Genesis(
        swarm=_text(data["swarm"], "swarm"),
        u=_number(data["u"], "u"),
        snapshot_every=_number(data.get("snapshot_every", SNAPSHOT_EVERY_DEFAULT), "snapshot_every"),
        apps=tuple(_text(app, f"apps[{index}]") for index, app in enumerate(apps)),
        members=tuple(_member(entry, f"members[{index}]") for index, entry in enumerate(members)),
        release=_release(data["release"]) if "release" in data else None,
    )


def _load(text: str) -> dict[str, object]:
    if len(text) > GENESIS_BYTES_MAX:
        _refuse(f"longer than {GENESIS_BYTES_MAX} characters", "")
    try:
        data = json.loads(text, object_pairs_hook=_object)
    except json.JSONDecodeError as error:
        raise ConfigError(f"not JSON: {error.msg}", where=f"line {error.lineno}") from None
    except (RecursionError, ValueError):
        raise ConfigError("not JSON that a genesis file could hold") from None
    if not isinstance(data, dict):
        _refuse("expected one JSON object", "")
    return cast("dict[str, object]", data)


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    # Of two equal keys JSON readers keep the first or the last: two tools would see two swarms.
    data: dict[str, object] = {}
    for key, value in pairs:
        if key in data:
            _refuse(f"the key {key!r} appears twice", "")
        data[key] = value
    return data


def _member(entry: object, path: str) -> Member:
    if not isinstance(entry, dict):
        _refuse("expected an object with id, role and key", path)
    _check_keys(entry, _MEMBER_KEYS, required=_MEMBER_KEYS, path=path)
    role = _text(entry["role"], f"{path}.role")
    if role not in ROLES:
        _refuse(f"unknown role {role!r}", f"{path}.role", nearest_hint(role, ROLES))
    key = _key(entry["key"], f"{path}.key")
    return Member(_text(entry["id"], f"{path}.id"), role, key)


def _release(entry: object) -> ReleaseKeys:
    if not isinstance(entry, dict):
        _refuse("expected an object with k and keys", "release")
    _check_keys(entry, _RELEASE_KEYS, required=_RELEASE_KEYS, path="release")
    keys = entry["keys"]
    if not isinstance(keys, list):
        _refuse("expected a list of keys", "release.keys")
    return ReleaseKeys(
        _number(entry["k"], "release.k"),
        tuple(_key(key, f"release.keys[{index}]") for index, key in enumerate(keys[: RELEASE_KEYS_MAX + 1])),
    )


def _key(value: object, path: str) -> bytes:
    text = _text(value, path)
    if _HEX_KEY.fullmatch(text) is None:
        _refuse(f"a key is {2 * PUBLIC_KEY_BYTES} lower-case hexadecimal digits", path)
    return bytes.fromhex(text)


def _check_keys(
    data: dict[str, object], known: tuple[str, ...], *, required: tuple[str, ...], path: str
) -> None:
    prefix = f"{path}." if path else ""
    for key in data:
        if key not in known:
            _refuse(f"unknown key {key!r}", f"{prefix}{key}", nearest_hint(key, known))
    for key in required:
        if key not in data:
            _refuse("missing", f"{prefix}{key}")


def _text(value: object, path: str) -> str:
    if not isinstance(value, str):
        _refuse(f"expected text, {json.dumps(value)[:40]} given", path)
    return value


def _number(value: object, path: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        _refuse(f"expected a whole number, {json.dumps(value)[:40]} given", path)
    return value


# ------------------------------------------------------------------------------------------ checking


def _check_apps(apps: tuple[str, ...]) -> None:
    if not 1 <= len(apps) <= GENESIS_APPS_MAX:
        _refuse(f"a swarm has 1 to {GENESIS_APPS_MAX} applications, {len(apps)} given", "apps")
    seen: set[str] = set()
    for index, app in enumerate(apps):
        match = _APP.fullmatch(app)
        if match is None:
            _refuse(f"{app!r} is not name@version", f"apps[{index}]", "such as notes@1")
        if match[1] in seen:
            _refuse(f"application {match[1]!r} is listed twice", f"apps[{index}]")
        seen.add(match[1])


def _check_members(members: tuple[Member, ...]) -> None:
    if len(members) > MEMBERS_MAX:
        _refuse(f"a swarm has at most {MEMBERS_MAX} members, {len(members)} given", "members")
    ids: dict[str, int] = {}
    keys: dict[bytes, int] = {}
    for index, member in enumerate(members):
        path = f"members[{index}]"
        _check_name(member.id, f"{path}.id")
        if member.role not in ROLES:
            _refuse(f"unknown role {member.role!r}", f"{path}.role", ", ".join(ROLES))
        if not is_canonical_key(member.key):
            _refuse("not a usable Ed25519 public key", f"{path}.key", "copy it from the device's key file")
        first = ids.setdefault(member.id, index)
        if first != index:
            _refuse(f"id {member.id!r} is already members[{first}]", f"{path}.id")
        # Two identities with one key would be one liar with two votes.
        first = keys.setdefault(member.key, index)
        if first != index:
            _refuse(f"the same key as members[{first}]", f"{path}.key")


def _check_name(text: str, path: str) -> None:
    if not is_name(text):
        _refuse(f"{text!r} is not 1 to 32 of a-z, 0-9 and '-'", path)


def _refuse(message: str, path: str, hint: str = "") -> NoReturn:
    raise ConfigError(message, where=path, hint=hint)
