"""What a batch of changes does to the mirror, decided without looking at it: stale or not, coalesced, in which round.

The rule of staleness stands here once in Python (for the coalescing and the memory store) and once in `ingest.sql`;
one table of cases holds both to it.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from daemon.ingest.change import UNCOUNTED, Change, ColumnValue, Kind
from daemon.mapping.structure import Link, Role, Source, Structure

ALL_UNKNOWN = ("*",)
"""`unknown` of a row none of whose values is known any more."""

CLEARED: tuple[int, ...] = ()
"""The position a lone tombstone leaves: below every real one, and of no lineage, so the next event applies."""


# Members of an enumeration are slow to reach, and these are asked for with every row.
_UPSERT, _TOMBSTONE, _UNKNOWN, _DELETE = Kind.UPSERT, Kind.TOMBSTONE, Kind.UNKNOWN, Kind.DELETE
_ALONE = frozenset((_TOMBSTONE, _UNKNOWN))
_ROOT = Role.ROOT


@dataclass(slots=True)
class Mark:
    """Where a row's state came from. `origin` numbers a partition of one topic incarnation.

    Not frozen, since one is made for every row; nobody changes one.
    """

    origin: int
    offset: int
    lineage: str | None
    position: tuple[int, ...] | None
    committed_ms: int | None


def is_stale(new: Mark, stored: Mark, *, revives: bool = False) -> bool:
    """Whether a change marked `new` is already contained in a row marked `stored`. In any doubt it is not.

    A change that is applied again heals as the connector sends on; one that is ignored wrongly is lost for good.
    `revives`: an image of a row that is stored as deleted. Of a delete and an insert by one event, as of a row that
    goes to another partition, the insert is the later one.
    """
    if new.origin == stored.origin and new.offset <= stored.offset:
        return True
    if new.position is None or stored.position is None or new.committed_ms is None or stored.committed_ms is None:
        return False
    if new.lineage is None or new.lineage != stored.lineage:
        return False
    equal = new.position == stored.position and new.committed_ms == stored.committed_ms
    if equal and (revives or new.origin == stored.origin):
        return False
    return new.position <= stored.position and new.committed_ms <= stored.committed_ms


@dataclass(slots=True)
class StagedRow:
    """One row as the batch leaves it: the net effect of one or more consecutive changes, whose `ops` it remembers.

    `unknown` names columns whose value must be carried over from the stored row, or else is not known.
    The halves of a primary-key change name each other: `old_key` on the insert half, `new_key` on the delete half,
    which keeps its values for the row of the new key.
    """

    source: str
    key: str
    kind: Kind
    columns: dict[str, ColumnValue]
    unknown: tuple[str, ...]
    mark: Mark
    first_seen_ms: int | None
    backfill: bool
    root: str | None
    parent: str | None
    refs: tuple[int, ...]
    old_key: str | None
    new_key: str | None
    first_commit_ms: int | None  # of the earliest change in here
    ops: list[str]  # of the changes coalesced in here; none for a reject, which is counted as one


@functools.lru_cache(maxsize=8192)
def row_hash(source: str, key: str) -> int:
    """A signed 64-bit hash that names a looked-up row in `refs`. A collision only makes an order due for nothing."""
    digest = hashlib.blake2b(f"{source}\x00{key}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True)


class Stager:
    """Turns changes in order of consumption into rounds of rows; within a round every row stands once.

    Two changes of one row become one staged row only where folding them together provably equals folding them one
    after the other, whatever the stored row is: same partition, both positions known, the later one not before the
    earlier one in either measure, and no column that the earlier supplies and the later leaves unavailable.
    Otherwise the later one waits for the next round.
    """

    def __init__(self, structure: Structure) -> None:
        self._sources = structure.sources
        self._placers = {name: placer(structure, source) for name, source in structure.sources.items()}

    def stage(
        self, changes: Iterable[tuple[int, Change]], live_since_ms: int, *, one_by_one: bool = False
    ) -> list[list[StagedRow]]:
        """Rounds of staged rows from (origin, change) pairs. Changes committed before `live_since_ms` are backfill.

        `one_by_one`: nothing is coalesced, so that every order is touched that a row belonged to on its way.
        """
        rounds: list[list[StagedRow]] = []
        latest: dict[tuple[str, str], tuple[int, StagedRow | None]] = {}
        for origin, change in changes:
            row = self._staged(origin, change, live_since_ms)
            name = (row.source, row.key)
            number, earlier = latest.get(name, (-1, None))
            if not one_by_one and earlier is not None and _coalesces(earlier, row):
                _absorb(earlier, row)
                continue
            number += 1
            if row.old_key is not None:
                # What comes after of the old key may be a row of its own again: the values of the one that was deleted
                # for this key are taken before, at the end of the round.
                old = (row.source, row.old_key)
                number = max(number, latest.get(old, (0, None))[0])
                latest[old] = (number, None)
            rounds += [[] for _ in range(number - len(rounds) + 1)]
            rounds[number].append(row)
            latest[name] = (number, row)
        return rounds

    def _staged(self, origin: int, change: Change, live_since_ms: int) -> StagedRow:
        kind, committed, position = change.kind, change.committed_ms, change.position
        backfill = change.snapshot or (committed is not None and committed < live_since_ms)
        ops = [] if change.op == UNCOUNTED else [change.op]
        marked, lineage = (committed, change.lineage) if position is not None else (None, None)
        offset = change.message.offset
        if kind is _UPSERT:
            return StagedRow(
                change.source,
                change.key,
                kind,
                change.columns,
                change.unavailable,
                Mark(origin, offset, lineage, position, marked),
                committed,
                backfill,
                *self._placers[change.source](change.key, change.columns),
                change.old_key,
                change.new_key,
                marked,
                ops,
            )
        return StagedRow(
            change.source,
            change.key,
            kind,
            {},
            ALL_UNKNOWN if kind is _UNKNOWN else change.unavailable,
            Mark(origin, offset, lineage, CLEARED if kind is _TOMBSTONE else position, marked),
            None,
            backfill,
            change.key if self._sources[change.source].role is _ROOT else None,
            None,
            (),
            change.old_key,
            change.new_key,
            marked,
            ops,
        )


Place: TypeAlias = "tuple[str | None, str | None, tuple[int, ...]]"
"""(root, parent, refs): the order a row belongs to, the row it hangs below, hashes of the rows it looks up."""


def placer(structure: Structure, source: Source) -> Callable[[str, Mapping[str, ColumnValue]], Place]:
    """Says where rows of a source stand, by key and columns.

    A row's order is known at once unless it hangs below a row that is no order by itself.
    """
    looked_up = [(link.target, _only(link), link.target_key) for link in source.refs]
    owners = [
        (
            link.target == structure.root and not structure.nested,
            _only(link),
            link.target_key,
            source.prefix(link.target),
        )
        for link in source.owners
    ]
    is_root = source.role is _ROOT

    def place(key: str, columns: Mapping[str, ColumnValue]) -> Place:
        refs: tuple[int, ...] = ()
        for target, only, target_key in looked_up:
            named = columns.get(only) if only is not None else None
            if named.__class__ is not str:  # nearly always it is one, or null
                named = target_key(columns)
            if named is not None:
                refs = (*refs, row_hash(target, named))
        if len(refs) > 1:
            refs = tuple(sorted(set(refs)))
        for is_order, only, target_key, prefix in owners:
            above = columns.get(only) if only is not None else None
            if above.__class__ is not str:
                above = target_key(columns)
            if above is not None:
                return (above, None, refs) if is_order else (None, prefix + above, refs)
        return key if is_root else None, None, refs

    return place


def _only(link: Link) -> str | None:
    """The column that is the key of the row looked up, where it is that alone."""
    return link.columns[0] if len(link.columns) == 1 and link.reads and not link.constants else None


def _coalesces(earlier: StagedRow, later: StagedRow) -> bool:
    a, b = earlier.mark, later.mark
    if earlier.kind in _ALONE or later.kind in _ALONE:
        return False
    if a.origin != b.origin or b.offset <= a.offset or a.lineage is None or a.lineage != b.lineage:
        return False
    if a.position is None or b.position is None or a.committed_ms is None or b.committed_ms is None:
        return False
    if b.position < a.position or b.committed_ms < a.committed_ms:
        return False
    if earlier.new_key is not None or later.old_key is not None or earlier.old_key is not None:
        return False
    if later.kind is _DELETE:
        return later.new_key is None
    return not later.unknown or (earlier.kind is _UPSERT and set(later.unknown) <= set(earlier.unknown))


def _absorb(earlier: StagedRow, later: StagedRow) -> None:
    """Make `earlier` the net effect of both."""
    earlier.kind, earlier.columns, earlier.unknown, earlier.mark = later.kind, later.columns, later.unknown, later.mark
    earlier.root, earlier.parent, earlier.refs = later.root, later.parent, later.refs
    earlier.backfill = earlier.backfill and later.backfill
    earlier.first_seen_ms = earliest(earlier.first_seen_ms, later.first_seen_ms)
    earlier.first_commit_ms = earliest(earlier.first_commit_ms, later.first_commit_ms)
    earlier.ops += later.ops


def earliest(*stamps: int | None) -> int | None:
    """The earliest of those that are known."""
    return min((stamp for stamp in stamps if stamp is not None), default=None)
