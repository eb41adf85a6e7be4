"""Rows as the state store hands them out, and the look-up rows they point at."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from collections.abc import Mapping as Dict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from daemon.mapping.model import Mapping, One

ALL_COLUMNS = "*"
"""In `StoredRow.unknown`: no column of the row is known."""


@dataclass(frozen=True, slots=True)
class StoredRow:
    """The latest known state of one OMS row.

    `columns` holds JSON values whose numbers are int or Decimal, never float. A column that is in `unknown`, or absent
    from `columns`, is unknown, which is not null. `root` is the key of the order the row belongs to, `parent` what it
    names as the row that it hangs below, where that is not the order.
    """

    source: str
    key: str
    root: str | None
    columns: Dict[str, Any]
    unknown: frozenset[str] = frozenset()
    deleted: bool = False
    first_seen_ms: int | None = None
    parent: str | None = None


class Wanted(NamedTuple):
    """Shared rows to read: the one with that key or, if `below`, those that name it as what they hang below."""

    source: str
    key: str
    below: bool = False

    def fits(self, row: StoredRow) -> bool:
        """Whether this is such a row."""
        return row.source == self.source and self.key == (row.parent if self.below else row.key)


def lookups(mapping: Mapping, row: StoredRow) -> Iterator[tuple[str, str]]:
    """(source, key) of every row that a to-one relation of this row points at; none for a deleted row.

    A relation whose columns are null or unknown points nowhere.
    """
    source = mapping.sources[row.source]
    return targets(source.one.values(), source.defaults, row)


def targets(relations: Iterable[One], defaults: Dict[str, Any], row: StoredRow) -> Iterator[tuple[str, str]]:
    """The same for some of the row's relations. `defaults` are the values of absent columns."""
    if row.deleted or ALL_COLUMNS in row.unknown:
        return
    columns = {**defaults, **row.columns} if defaults else row.columns
    for relation in relations:
        if relation.link is None or not row.unknown.isdisjoint(relation.link.reads):
            continue
        try:
            key = relation.link.target_key(columns)
        except ValueError:
            continue
        if key is not None:
            yield relation.target, key
