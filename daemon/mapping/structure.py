"""The part of a mapping that ingest and state need: which topics, which columns, and the way from a row to its order.

A source is the *root* (one row is one order), *owned* (its rows belong to an order), or *shared* (looked up by key,
belongs to no order). `owners` lead one step up: a row hangs below the row that the first of them leads to whose columns
are set. Rows of a root with owners may belong to another order themselves (a refund that is a row of the orders' own
table); shared rows with owners hang below other shared rows (a variant's option values) and are read with those. `refs`
are the to-one relations over which a change of the looked-up row makes an order due again (`on_change: refresh`, the
default).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping as Dict
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Any, NamedTuple

import orjson

from daemon.mapping.keys import key_text, row_key

FIXED = "="
"""Before a constant where a column could stand."""


class Role(StrEnum):
    """How the rows of a source hang together with orders."""

    ROOT = "root"
    OWNED = "owned"
    SHARED = "shared"


@dataclass(frozen=True, slots=True)
class Link:
    """A step from a row of `source` to one row of `target`, whose whole key is named by this row's `columns`.

    `columns` stand in the order of the target's key columns; `=text` is a constant part of the key. `constants` are
    conditions on this row's columns (polymorphic references): where one does not hold, the row has no such link.
    """

    name: str  # "source.relation", unique within a mapping
    source: str
    target: str
    columns: tuple[str, ...]
    constants: tuple[tuple[str, str], ...] = ()
    reads: tuple[str, ...] = field(init=False, repr=False, compare=False)
    """The columns of this row that decide where the link leads."""
    only: str | None = field(init=False, repr=False, compare=False)
    """The one column that says it all, nearly always."""

    def __post_init__(self) -> None:
        named = (name for name in self.columns if not name.startswith(FIXED))
        object.__setattr__(self, "reads", (*named, *(name for name, _ in self.constants)))
        alone = len(self.columns) == 1 and self.reads == self.columns
        object.__setattr__(self, "only", self.columns[0] if alone else None)

    def target_key(self, columns: Dict[str, Any]) -> str | None:
        """The key of the row this one points at; None where a column is null or absent, or a constant differs."""
        if self.only is not None:
            value = columns.get(self.only)
            return value if value is None or type(value) is str else key_text(value)
        for name, wanted in self.constants:
            value = columns.get(name)
            if value is None or key_text(value) != wanted:
                return None
        values = [name[1:] if name.startswith(FIXED) else columns.get(name) for name in self.columns]
        if any(value is None for value in values):
            return None
        return row_key(values)


@dataclass(frozen=True, slots=True)
class ConnectorModes:
    """How the connector writes what a message does not describe itself; names and defaults are its own.

    The `add_` options and `unwrapped` are those of its transform ExtractNewRecordState, where it is used.
    """

    decimal_handling_mode: str = "precise"  # precise | double | string
    time_precision_mode: str = (
        "adaptive"  # adaptive | adaptive_time_microseconds | connect | isostring | microseconds | nanoseconds
    )
    interval_handling_mode: str = "numeric"  # numeric | string
    binary_handling_mode: str = "bytes"  # bytes | base64 | base64-url-safe | hex
    unavailable_value_placeholder: str = "__debezium_unavailable_value"
    bigint_unsigned_handling_mode: str = "long"  # long | precise
    unwrapped: bool = False  # rows come flattened, also those that show nothing of the transform
    add_fields: tuple[str, ...] = ()  # as the transform is told them: op, source.ts_ms, lsn:log_position
    add_fields_prefix: str = "__"
    add_headers: tuple[str, ...] = ()
    add_headers_prefix: str = "__"


@dataclass(frozen=True, slots=True)
class Source:
    """One topic of rows.

    `required`: the daemon is not ready while the topic is missing. It says nothing of rows, so it is no part of the
    structure's version.
    """

    name: str
    topic: str
    role: Role
    key: tuple[str, ...] | None = None  # None: the fields of the message key
    types: Dict[str, str] = field(default_factory=lambda: MappingProxyType({}))
    drop: frozenset[str] = frozenset()
    hashed: Dict[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """Columns that are stored as the hash the API takes: `email`, or `phone XX` with the country it is read in."""
    modes: ConnectorModes = ConnectorModes()
    owners: tuple[Link, ...] = ()
    refs: tuple[Link, ...] = ()
    required: bool = False

    def key_version(self) -> str:
        """A digest of what makes the row's key, and of its text: rows under two of them cannot stand side by side."""
        columns = self.types.keys() if self.key is None else self.key  # without `key:` it is any of them
        types = sorted((name, self.types[name]) for name in columns if name in self.types)
        return _digest([self.key, types, self._modes() if types else None])

    def values_version(self) -> str:
        """A digest of what makes the stored key and values of a row: after a change of it, rows must be read anew."""
        hashed = [sorted(self.hashed.items())] if self.hashed else []
        return _digest([self.key, sorted(self.types.items()), sorted(self.drop), self._modes(), *hashed])

    def _modes(self) -> list[tuple[str, Any]]:
        # Defaults are left out: a mode that a later release adds asks nobody to read rows anew.
        default = asdict(ConnectorModes())
        return sorted(item for item in asdict(self.modes).items() if item[1] != default[item[0]])

    def relations_version(self) -> str:
        """A digest of what leads from a stored row to its order: a change of it can be followed in place."""
        refs, owners = (
            [[link.target, link.columns, link.constants] for link in links] for links in (self.refs, self.owners)
        )
        return _digest([self.role, bool(owners), sorted(refs), owners])

    def parent(self, target: str, key: str) -> str:
        """How a row of this source names the row of `target` that it hangs below, among those of several targets."""
        return self.prefix(target) + key

    def prefix(self, target: str) -> str:
        """What stands before the key in such a name."""
        return f"{target}/" if len({link.target for link in self.owners}) > 1 else ""


class Step(NamedTuple):
    """Rows of `child` hang below rows of `above`, whose key they name behind `prefix`."""

    child: str
    above: str
    prefix: str


@dataclass(frozen=True, slots=True)
class Structure:
    """All sources, by name. `version` is a digest of everything in here: it changes when rows must be read anew."""

    root: str
    sources: Dict[str, Source]
    version: str

    @property
    def nested(self) -> bool:
        """Whether a row of the root may belong to another order: then only the mirror knows what hangs below it."""
        return bool(self.sources[self.root].owners) if self.root in self.sources else False

    def steps(self, *, shared: bool) -> list[Step]:
        """Every step from a row to the row it hangs below, within orders (where that is not the order itself), or
        among `shared` rows."""
        return [
            Step(source.name, target, source.prefix(target))
            for source in self.sources.values()
            if (source.role is Role.SHARED) is shared
            for target in dict.fromkeys(link.target for link in source.owners)
            if target != self.root or self.nested
        ]

    def relations_version(self, name: str) -> str:
        """A digest of what leads from the stored rows of a source to their orders, the root's own place included."""
        source = self.sources[name]
        version = source.relations_version()
        below_root = any(link.target == self.root for link in source.owners)
        return _digest([version, "nested"]) if self.nested and below_root else version

    def by_topic(self) -> dict[str, Source]:
        """The source of each topic."""
        return {source.topic: source for source in self.sources.values()}


def version_of(root: str, sources: Dict[str, Source]) -> str:
    """A digest of a whole structure."""
    written = [
        [name, source.topic, source.values_version(), source.relations_version()]
        for name, source in sorted(sources.items())
    ]
    return _digest([root, written])


def _digest(content: Any) -> str:
    return hashlib.sha256(orjson.dumps(content)).hexdigest()[:16]
