"""The mirror's rows in memory, found as Postgres finds them: by key, by what they hang below, by what they look up."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from daemon.ingest.fold import Mark

Name: TypeAlias = tuple[str, str]
"""(source, row key)"""


@dataclass(frozen=True, slots=True)
class MemoryRow:
    """A row of the mirror. A change puts another one in its place, so that whoever keeps one keeps what it was.

    `heir` is the new key of a row that a key change deleted. `awaits` names the key change, (old key, new key), whose
    delete half has yet to bring what this row does not know.
    """

    columns: dict[str, Any]
    unknown: tuple[str, ...]
    deleted: bool
    root: str | None
    parent: str | None
    refs: tuple[int, ...]
    mark: Mark
    first_seen_ms: int | None
    generation: int = 0
    heir: str | None = None
    awaits: tuple[str, str] | None = None


class _Index:
    """Names by whatever their rows refer to."""

    def __init__(self) -> None:
        self._names: dict[Hashable, dict[Name, None]] = {}

    def names(self, wanted: Hashable) -> list[Name]:
        return list(self._names.get(wanted, ()))

    def move(self, name: Name, before: Iterable[Hashable], now: Iterable[Hashable]) -> None:
        if before == now:
            return
        for one in before:
            del self._names[one][name]
        for one in now:
            self._names.setdefault(one, {})[name] = None


class MemoryRows(Mapping[Name, MemoryRow]):
    """Rows by (source, row key), with indexes over all by which they are followed."""

    def __init__(self) -> None:
        self._rows: dict[Name, MemoryRow] = {}
        self._below, self._looking_up, self._awaiting = _Index(), _Index(), _Index()

    def __getitem__(self, name: Name) -> MemoryRow:
        return self._rows[name]

    def __iter__(self) -> Iterator[Name]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)

    def put(self, name: Name, row: MemoryRow | None) -> None:
        """Make this the row of that name; None takes it away."""
        before = self._rows.get(name)
        if row is None:
            self._rows.pop(name, None)
        else:
            self._rows[name] = row
        self._below.move(name, _parents(name, before), _parents(name, row))
        self._looking_up.move(name, before.refs if before else (), row.refs if row else ())
        self._awaiting.move(name, _changes(name, before), _changes(name, row))

    def below(self, source: str, parent: str) -> list[Name]:
        """The rows of a source that hang below the row of its owner with that key."""
        return self._below.names((source, parent))

    def that_look_up(self, hashes: Iterable[int]) -> list[Name]:
        """The rows that look up a row with one of these hashes."""
        return list(dict.fromkeys(name for one in hashes for name in self._looking_up.names(one)))

    def awaiting(self, source: str, old_key: str, new_key: str) -> list[Name]:
        """The rows that wait for the delete half of a key change."""
        return self._awaiting.names((source, old_key, new_key))


def _parents(name: Name, row: MemoryRow | None) -> tuple[Hashable, ...]:
    return ((name[0], row.parent),) if row is not None and row.parent is not None else ()


def _changes(name: Name, row: MemoryRow | None) -> tuple[Hashable, ...]:
    return ((name[0], *row.awaits),) if row is not None and row.awaits is not None else ()
