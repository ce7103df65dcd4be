"""The strict YAML reader of every file that a person writes: one error, one line, with file, line and key.

A text becomes a tree of `Node`s that remember where they stood, and `convert` turns a tree into frozen msgspec
Structs whose type hints say what is legal. Nothing is guessed: a duplicate key, an unknown key, an empty value, an
alias, `yes` for a truth value or `010` for a number are refused instead of being read as something else.

No file is opened here; who opens one hands in its text and its name.
"""

from __future__ import annotations

import difflib
import math
import re
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, Final, Literal, TypeVar, Union

import msgspec
import yaml

from swarm.primitives.errors import ConfigError
from swarm.primitives.ids import checked_name
from swarm.primitives.limits import DURATION_MS_MAX, NUMBER_MAX, SETTINGS_BYTES_MAX

Scalar = bool | int | float | str
Value = Union[None, Scalar, "dict[str, Node]", "list[Node]"]
T = TypeVar("T")

_KEY_SHOWN_MAX: Final = 80
_MILLION: Final = 1_000_000
_INTEGER_DIGITS_MAX: Final = 20
"""A longer number stays text: nothing here counts so far."""
_TAG: Final = "tag:yaml.org,2002:"
_INTEGER = re.compile(r"[-+]?(0|[1-9][0-9]*)")
_DECIMAL = re.compile(r"[-+]?(0|[1-9][0-9]*)\.[0-9]+([eE][-+]?[0-9]+)?")
_DURATION = re.compile(r"(-?)([0-9]{1,15})(?:\.([0-9]{1,9}))?(ms|s|m|h)")
_RATE = re.compile(r"([0-9]{1,9})(?:\.([0-9]{1,3}))?/s")
_UNITS_MS: Final = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000}
_DURATION_HINT: Final = "a duration is a number with its unit: 250ms, 5s, 2m, 1h"


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One value of a settings file with the place it was read from.

    `path` is the key's path (`faults[2].crash`, empty for the whole file), `line` counts from 1.
    """

    source: str
    path: str
    line: int
    value: Value

    @property
    def where(self) -> str:
        """The place as it stands in front of an error: `file:line: path`."""
        return _where(self.source, self.line, self.path)

    def locate(self, *parts: str | int) -> str:
        """Return the place of a key below this one, for checks made after reading.

        A part that is not in the file (a default applied) keeps the line of the nearest part that is.
        """
        node, path = self, self.path
        missing = False
        for part in parts:
            path = _join(path, part)
            child = None if missing else _child(node, part)
            missing = child is None
            node = child or node
        return _where(self.source, node.line, path)

    def error(self, message: str, *, hint: str = "") -> ConfigError:
        """Return (not raise) a `ConfigError` that names this place."""
        return ConfigError(message, where=self.where, hint=hint)


def _where(source: str, line: int, path: str) -> str:
    return f"{source}:{line}: {path}" if path else f"{source}:{line}"


def _join(path: str, part: str | int) -> str:
    if isinstance(part, int):
        return f"{path}[{part}]"
    if len(part) > _KEY_SHOWN_MAX or not part.isprintable():
        # a key may hold anything, a line break included, and an error stays one line
        part = repr(part[:_KEY_SHOWN_MAX])
    return f"{path}.{part}" if path else part


def _child(node: Node, part: str | int) -> Node | None:
    if isinstance(part, str) and isinstance(node.value, dict):
        return node.value.get(part)
    if isinstance(part, int) and isinstance(node.value, list) and part < len(node.value):
        return node.value[part]
    return None


# ------------------------------------------------------------------------------------------ text to tree


def read_mapping(text: str, source: str) -> Node:
    """Parse the YAML `text` of a file called `source` and return its tree, whose root is a mapping.

    Raises `ConfigError` with file and line for what is no YAML, no mapping, empty or too large, for a duplicate
    key, a key that is no text, an alias, a tag, and nesting beyond reason. Truth values are `true` and `false`
    and numbers are decimal, as in YAML 1.2; everything else plain is text.
    """
    if len(text.encode("utf-8", "surrogatepass")) > SETTINGS_BYTES_MAX:
        raise ConfigError(f"is larger than {SETTINGS_BYTES_MAX} bytes", where=source)
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        if root is None:
            raise ConfigError("is empty; a mapping of keys to values is needed", where=source)
        if not isinstance(root, yaml.MappingNode):
            raise ConfigError(
                "is no mapping; keys with values are needed (`name: greenhouse`)", where=f"{source}:1"
            )
        return _TreeBuilder(source).build(root, "", root.start_mark.line)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{source}:{mark.line + 1}" if mark else source
        raise ConfigError(f"is not YAML: {_one_line(error.problem or error.context)}", where=where) from None
    except yaml.YAMLError as error:
        raise ConfigError(f"is not YAML: {_one_line(error)}", where=source) from None
    except RecursionError:
        raise ConfigError("is nested too deeply", where=source) from None


def _one_line(text: object) -> str:
    return " ".join(str(text).split())


class _TreeBuilder:
    """Turn composed YAML nodes into `Node`s; a node met twice is an alias."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._seen: set[int] = set()

    def build(self, raw: yaml.Node, path: str, line: int) -> Node:
        """Return the tree of `raw`, whose key stood in `line` (from 0)."""
        if id(raw) in self._seen:
            raise self._error("anchors and aliases are not supported; write the value out", raw, path)
        self._seen.add(id(raw))
        value: Value
        if isinstance(raw, yaml.MappingNode):
            self._check_tag(raw, path, "map")
            value = self._mapping(raw, path)
        elif isinstance(raw, yaml.SequenceNode):
            self._check_tag(raw, path, "seq")
            value = [
                self.build(item, _join(path, index), item.start_mark.line)
                for index, item in enumerate(raw.value)
            ]
        else:
            value = self._scalar(raw, path)
        return Node(source=self._source, path=path, line=line + 1, value=value)

    def _mapping(self, raw: yaml.MappingNode, path: str) -> dict[str, Node]:
        entries: dict[str, Node] = {}
        for raw_key, raw_value in raw.value:
            key = self._scalar(raw_key, path) if isinstance(raw_key, yaml.ScalarNode) else None
            if not isinstance(key, str):
                raise self._error("a key must be text", raw_key, path)
            if key in entries:
                first = entries[key].line
                raise self._error(
                    f"key {key!r} stands twice, first in line {first}", raw_key, _join(path, key)
                )
            entries[key] = self.build(raw_value, _join(path, key), raw_key.start_mark.line)
        return entries

    def _scalar(self, raw: yaml.Node, path: str) -> Scalar | None:
        text = str(raw.value)
        kind = str(raw.tag).removeprefix(_TAG)
        if kind == "null":
            return None
        if kind == "bool" and text.lower() in {"true", "false"}:
            return text.lower() == "true"
        if kind == "int" and _INTEGER.fullmatch(text) and len(text) <= _INTEGER_DIGITS_MAX:
            return int(text)
        if kind == "float" and _DECIMAL.fullmatch(text):
            return float(text)
        if kind in {"str", "bool", "int", "float", "timestamp", "merge", "value"}:
            return text
        raise self._error(f"the tag {raw.tag!r} is not supported", raw, path)

    def _check_tag(self, raw: yaml.Node, path: str, kind: str) -> None:
        if raw.tag != _TAG + kind:
            raise self._error(f"the tag {raw.tag!r} is not supported", raw, path)

    def _error(self, message: str, raw: yaml.Node, path: str) -> ConfigError:
        return ConfigError(message, where=_where(self._source, raw.start_mark.line + 1, path))


# ------------------------------------------------------------------------------------------ tree to structs


@dataclass(frozen=True, slots=True)
class Reads:
    """A marker in `Annotated[...]`: this function reads the node instead of the bare type."""

    read: Callable[[Node], Any]


@dataclass(frozen=True, slots=True)
class Between:
    """A marker in `Annotated[int, ...]` or `Annotated[float, ...]`: the closed range of legal numbers."""

    low: int
    high: int


def convert(node: Node, shape: type[T]) -> T:
    """Turn a tree into `shape`, a frozen msgspec Struct whose hints say what is legal.

    A hint may be a Struct, `bool`, `int`, `float`, `str`, `Literal` of texts, `tuple[X, ...]`, `Mapping[str, X]`,
    `X | None` for a key that may be left out, a union that the kind of YAML value decides (`str | SomeStruct`),
    `Node` for a part read later, and `Annotated` with `Reads` or `Between`. A field's `name` is its key.

    Raises `ConfigError` that names file, line and key path, and for an unknown key the nearest legal one.
    """
    result: T = _convert(node, shape)
    return result


def _convert(node: Node, hint: Any) -> Any:
    if hint is Node:
        return node
    origin = typing.get_origin(hint)
    if origin is Annotated:
        return _convert_marked(node, hint)
    if node.value is None:
        raise node.error("has no value")
    if origin in {Union, types.UnionType}:
        return _convert(node, _pick_member(node, [m for m in typing.get_args(hint) if m is not type(None)]))
    if origin is Literal:
        return read_choice(node, typing.get_args(hint))
    if origin is tuple:
        member = typing.get_args(hint)[0]
        return tuple(_convert(item, member) for item in items_of(node))
    if origin in {dict, Mapping}:
        member = typing.get_args(hint)[1]
        return {key: _convert(item, member) for key, item in entries_of(node).items()}
    if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
        return _convert_struct(node, hint)
    return _convert_scalar(node, hint)


def _convert_marked(node: Node, hint: Any) -> Any:
    bare, *marks = typing.get_args(hint)
    for mark in marks:
        if isinstance(mark, Reads):
            return mark.read(node)
    between = next((mark for mark in marks if isinstance(mark, Between)), None)
    if between is not None and bare is int and _is_endless(node):
        raise node.error(f"must be {between.low} to {between.high}, got {_digits(node)}")
    value = _convert(node, bare)
    if between is not None and not between.low <= value <= between.high:
        raise node.error(f"must be {between.low} to {between.high}, got {value}")
    return value


def _is_endless(node: Node) -> bool:
    """Answer whether a whole number stands at `node` that is beyond every number of ours; a very long one is text."""
    if isinstance(node.value, str):
        return len(node.value) > _INTEGER_DIGITS_MAX and _INTEGER.fullmatch(node.value) is not None
    return isinstance(node.value, int) and abs(node.value) > NUMBER_MAX


def _digits(node: Node) -> str:
    return describe(node).strip("'")


def _pick_member(node: Node, members: list[Any]) -> Any:
    """Choose the member of a union by the kind of YAML value: mapping, list, or scalar."""
    if len(members) == 1:
        return members[0]
    for member in members:
        is_struct = isinstance(member, type) and issubclass(member, msgspec.Struct)
        if isinstance(node.value, dict) and is_struct:
            return member
        if isinstance(node.value, list) and typing.get_origin(member) is tuple:
            return member
        if not isinstance(node.value, dict | list) and member in {bool, int, float, str}:
            return member
    raise node.error(f"got {describe(node)}, which means nothing here")


@cache
def _fields_of(shape: type[msgspec.Struct]) -> tuple[msgspec.structs.FieldInfo, ...]:
    return msgspec.structs.fields(shape)


def _convert_struct(node: Node, shape: type[msgspec.Struct]) -> Any:
    entries = entries_of(node)
    fields = _fields_of(shape)
    refuse_unknown(node, [field.encode_name for field in fields])
    values: dict[str, Any] = {}
    for field in fields:
        if field.encode_name in entries:
            values[field.name] = _convert(entries[field.encode_name], field.type)
        elif field.required:
            raise ConfigError("is missing", where=node.locate(field.encode_name))
    return shape(**values)


def _convert_scalar(node: Node, hint: Any) -> Any:
    value = node.value
    if hint is bool and isinstance(value, bool):
        return value
    if hint is int and _is_endless(node):
        raise node.error(f"{_digits(node)} is too large", hint=f"at most {NUMBER_MAX}")
    if hint is int and isinstance(value, int) and not isinstance(value, bool):
        return value
    if hint is float and isinstance(value, int | float) and not isinstance(value, bool):
        if not math.isfinite(value):
            raise node.error("is no finite number")
        return float(value)
    if hint is str and isinstance(value, str):
        return value
    wanted = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}[hint]
    hint_text = "put it into quotes" if hint is str and isinstance(value, bool | int | float) else ""
    raise node.error(f"must be {wanted}, got {describe(node)}", hint=hint_text)


# ------------------------------------------------------------------------------------------ reading by hand


def entries_of(node: Node) -> dict[str, Node]:
    """Return the keys and values of a mapping, else raise `ConfigError`."""
    if not isinstance(node.value, dict):
        raise node.error(f"must be a mapping of keys to values, got {describe(node)}")
    return node.value


def items_of(node: Node) -> list[Node]:
    """Return the items of a list, else raise `ConfigError`."""
    if not isinstance(node.value, list):
        raise node.error(f"must be a list, got {describe(node)}")
    return node.value


def describe(node: Node) -> str:
    """Say in a few words what stands at `node`, for error messages."""
    if node.value is None:
        return "nothing"
    if isinstance(node.value, dict):
        return "a mapping"
    if isinstance(node.value, list):
        return "a list"
    if isinstance(node.value, bool):
        return "true" if node.value else "false"
    text = repr(node.value)
    return text if len(text) <= 60 else f"{text[:56]}...'"


def nearest_hint(word: str, legal: Iterable[str]) -> str:
    """Return the hint for a misspelt `word`: the nearest legal one, or all of them."""
    words = sorted(legal)
    close = difflib.get_close_matches(word, words, n=1, cutoff=0.6)
    return f"did you mean {close[0]!r}?" if close else f"known: {', '.join(words)}"


def refuse_unknown(node: Node, legal: Iterable[str], *, what: str = "key") -> None:
    """Raise `ConfigError` for the first key of a mapping that is not in `legal`, naming the nearest one."""
    words = list(legal)
    for key, item in entries_of(node).items():
        if key not in words:
            raise item.error(f"unknown {what} {key[:_KEY_SHOWN_MAX]!r}", hint=nearest_hint(key, words))


def read_choice(node: Node, legal: Iterable[str], *, what: str = "value") -> str:
    """Return a text that is one of `legal`, else raise `ConfigError` naming the nearest one."""
    words = list(legal)
    text = _convert_scalar(node, str) if node.value is not None else None
    if text not in words:
        raise node.error(f"unknown {what} {describe(node)}", hint=nearest_hint(str(node.value), words))
    return str(text)


def read_name(node: Node) -> str:
    """Return a legal name of a device, a swarm or a subject, else raise `ConfigError`."""
    return checked_name(convert(node, str), where=node.where)


def read_names(node: Node, *, may_be_empty: bool = False) -> tuple[str, ...]:
    """Return one name or a list of at least one (or of none, if that means something), each at most once."""
    nodes = node.value if isinstance(node.value, list) else [node]
    names: list[str] = []
    for item in nodes:
        name = read_name(item)
        if name in names:
            raise item.error(f"{name!r} stands twice")
        names.append(name)
    if not names and not may_be_empty:
        raise node.error("is an empty list")
    return tuple(names)


def read_options(node: Node) -> Mapping[str, Scalar]:
    """Return a flat mapping of options whose values are texts, numbers or truth values."""
    options: dict[str, Scalar] = {}
    for key, item in entries_of(node).items():
        if item.value is None or isinstance(item.value, dict | list):
            raise item.error(f"must be text, a number, true or false, got {describe(item)}")
        options[key] = item.value
    return options


def read_ppm(node: Node) -> int:
    """Return a probability 0 to 1 in parts per million, the unit that simulators draw in."""
    value = convert(node, float)
    if not 0.0 <= value <= 1.0:
        raise node.error(f"a probability must be 0 to 1, got {value:g}")
    return round(value * _MILLION)


def read_rate_milli(node: Node) -> int:
    """Return a rate such as `50/s` in events per thousand seconds (50,000)."""
    match = _RATE.fullmatch(str(node.value)) if isinstance(node.value, str) else None
    rate = int(match[1]) * 1_000 + int((match[2] or "0").ljust(3, "0")) if match else 0
    if rate == 0:
        raise node.error(f"{describe(node)} is no rate above zero", hint="events a second: 50/s, 0.5/s")
    return rate


def read_duration_ms(node: Node) -> int:
    """Return a duration of zero or more in milliseconds."""
    if not isinstance(node.value, str):
        raise node.error(f"must be a duration, got {describe(node)}", hint=_DURATION_HINT)
    return parse_duration_ms(node.value, node.where)


def read_positive_ms(node: Node) -> int:
    """Return a duration above zero in milliseconds."""
    duration_ms = read_duration_ms(node)
    if duration_ms == 0:
        raise node.error("must be longer than zero", hint=_DURATION_HINT)
    return duration_ms


def read_signed_ms(node: Node) -> int:
    """Return a duration in milliseconds that may be negative: how far a clock jumps."""
    text = node.value
    if isinstance(text, str) and text.startswith("-"):
        return -parse_duration_ms(text[1:], node.where)
    return read_duration_ms(node)


DurationMs = Annotated[int, Reads(read_duration_ms)]
PositiveMs = Annotated[int, Reads(read_positive_ms)]
SignedMs = Annotated[int, Reads(read_signed_ms)]
Ppm = Annotated[int, Reads(read_ppm)]
RateMilli = Annotated[int, Reads(read_rate_milli)]
Name = Annotated[str, Reads(read_name)]
Names = Annotated[tuple[str, ...], Reads(read_names)]
Options = Annotated[Mapping[str, Scalar], Reads(read_options)]


def parse_duration_ms(text: str, where: str) -> int:
    """Return the milliseconds of a duration such as `250ms`, `5s`, `2m`, `1h` or `1.5s`.

    Raises `ConfigError` naming `where` for a negative one, a bare number, a part of a millisecond, or nonsense.
    """
    match = _DURATION.fullmatch(text)
    if match is None:
        raise ConfigError(f"{text!r} is no duration", where=where, hint=_DURATION_HINT)
    sign, whole, fraction, unit = match.groups(default="")
    if sign:
        raise ConfigError(f"the duration {text!r} is negative", where=where, hint=_DURATION_HINT)
    scale: int = 10 ** len(fraction)
    duration_ms, rest = divmod(int(whole + fraction) * _UNITS_MS[unit], scale)
    if rest:
        raise ConfigError(f"{text!r} is no whole number of milliseconds", where=where, hint=_DURATION_HINT)
    if duration_ms > DURATION_MS_MAX:
        raise ConfigError(f"{text!r} is longer than {format_duration_ms(DURATION_MS_MAX)}", where=where)
    return duration_ms


def format_duration_ms(duration_ms: int) -> str:
    """Return a duration as a person writes it: the largest unit that leaves a whole number."""
    for unit in ("h", "m", "s"):
        if duration_ms % _UNITS_MS[unit] == 0 and (duration_ms or unit == "s"):
            return f"{duration_ms // _UNITS_MS[unit]}{unit}"
    return f"{duration_ms}ms"
