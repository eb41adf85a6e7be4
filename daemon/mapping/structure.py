"""The part of a mapping that ingest and state need: which topics, which columns, and the way from a row to its order.

A source is the *root* (one row is one order), *owned* (its rows belong to an order: `owner` leads one step up), or
*shared* (looked up by key, belongs to no order). `refs` are the to-one relations over which a change of the looked-up
row makes an order due again (`on_change: refresh`, the default).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping as Dict
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Any

import orjson

from daemon.mapping.keys import key_text, row_key


class Role(StrEnum):
    """How the rows of a source hang together with orders."""

    ROOT = "root"
    OWNED = "owned"
    SHARED = "shared"


@dataclass(frozen=True, slots=True)
class Link:
    """A step from a row of `source` to one row of `target`, whose whole key is named by this row's `columns`.

    `columns` stand in the order of the target's key columns. `constants` are conditions on this row's columns
    (polymorphic references): where one does not hold, the row has no such link.
    """

    name: str  # "source.relation", unique within a mapping
    source: str
    target: str
    columns: tuple[str, ...]
    constants: tuple[tuple[str, str], ...] = ()

    def target_key(self, columns: Dict[str, Any]) -> str | None:
        """The key of the row this one points at; None where a column is null or absent, or a constant differs."""
        for name, wanted in self.constants:
            value = columns.get(name)
            if value is None or key_text(value) != wanted:
                return None
        if len(self.columns) == 1:  # nearly always, and asked for every row
            only = columns.get(self.columns[0])
            return None if only is None else key_text(only)
        values = [columns.get(name) for name in self.columns]
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
    modes: ConnectorModes = ConnectorModes()
    owner: Link | None = None
    refs: tuple[Link, ...] = ()
    required: bool = False

    def key_version(self) -> str:
        """A digest of what makes the row's key, and of its text: rows under two of them cannot stand side by side."""
        columns = self.types.keys() if self.key is None else self.key  # without `key:` it is any of them
        types = sorted((name, self.types[name]) for name in columns if name in self.types)
        return _digest([self.key, types, self._modes() if types else None])

    def values_version(self) -> str:
        """A digest of what makes the stored key and values of a row: after a change of it, rows must be read anew."""
        return _digest([self.key, sorted(self.types.items()), sorted(self.drop), self._modes()])

    def _modes(self) -> list[tuple[str, Any]]:
        # Defaults are left out: a mode that a later release adds asks nobody to read rows anew.
        default = asdict(ConnectorModes())
        return sorted(item for item in asdict(self.modes).items() if item[1] != default[item[0]])

    def relations_version(self) -> str:
        """A digest of what leads from a stored row to its order: a change of it can be followed in place."""
        steps = [[link.target, link.columns, link.constants] for link in (*self.refs, *filter(None, [self.owner]))]
        return _digest([self.role, self.owner is not None, sorted(steps[: len(self.refs)]), steps[len(self.refs) :]])


@dataclass(frozen=True, slots=True)
class Structure:
    """All sources, by name. `version` is a digest of everything in here: it changes when rows must be read anew."""

    root: str
    sources: Dict[str, Source]
    version: str

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
