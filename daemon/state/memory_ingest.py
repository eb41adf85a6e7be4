"""The ingest store in memory, for simulation and for tests of everything above it.

It passes the same contract suite as the one on Postgres. Orders are marked through `mark`, so that whoever simulates
delivery keeps the records.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from daemon.errors import PositionsMoved
from daemon.ingest.change import Kind, Reject
from daemon.ingest.fold import ALL_UNKNOWN, CLEARED, Mark, StagedRow, is_stale, row_hash
from daemon.mapping.structure import Structure
from daemon.state.ingest_store import MASS_CHANGE, Batch, FoldResult, Position, TopicPartition
from daemon.state.schedule import Lane

MarkOrder = Callable[[str, Lane, "int | None"], None]
"""(order key, lane, commit time in epoch milliseconds)"""


@dataclass(slots=True)
class MemoryRow:
    """A row of the mirror."""

    columns: dict[str, Any]
    unknown: tuple[str, ...]
    deleted: bool
    root: str | None
    parent: str | None
    refs: tuple[int, ...]
    mark: Mark
    first_seen_ms: int | None
    generation: int = 0


class MemoryIngestStore:
    """`IngestStore` over dicts. One transaction at a time, whole or not at all."""

    def __init__(self, mark: MarkOrder) -> None:
        self.rows: dict[tuple[str, str], MemoryRow] = {}
        self.rejects: list[tuple[str, Reject]] = []
        self.columns: set[tuple[str, str, str]] = set()
        self._positions: dict[TopicPartition, Position] = {}
        self.generations: dict[str, int] = {}
        """By source; a rebuild raises them. Sources that are not in here are in generation 0."""
        self.halted: dict[int, str] = {}
        self._next: dict[int, int] = {}
        self._targets: dict[int, int] = {}
        self._mark = mark
        self._structure: Structure | None = None

    def open(self, structure: Structure, destinations: Sequence[str]) -> None:  # noqa: ARG002 - they are `mark`'s affair
        self._structure = structure

    def positions(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, Position]:
        found = {}
        for asked in partitions:
            incarnations = [known.topic_id for known in self._positions if known.topic == asked.topic]
            partition = asked if asked.topic_id or not incarnations else replace(asked, topic_id=incarnations[-1])
            if partition.topic_id and incarnations and set(incarnations) == {""}:
                self._positions = {
                    replace(known, topic_id=partition.topic_id) if known.topic == asked.topic else known: position
                    for known, position in self._positions.items()
                }
            elif incarnations and partition.topic_id not in incarnations:
                continue
            origin = self._positions.setdefault(partition, Position(len(self._positions) + 1, -1)).origin
            found[asked] = Position(origin, self._next.setdefault(origin, -1))
        return found

    def reset(self, partition: TopicPartition, next_offset: int) -> None:
        """What an operator does: go on from here, whatever the topic's incarnation."""
        origin = self._positions.setdefault(partition, Position(len(self._positions) + 1, -1)).origin
        self._next[origin] = next_offset
        self._targets.pop(origin, None)
        self.halted.pop(origin, None)

    def note_read(self, origins: Sequence[int]) -> None:
        pass

    def halt(self, origins: Sequence[int], why: str | None) -> None:
        for origin in origins:
            if why is None:
                self.halted.pop(origin, None)
            else:
                self.halted[origin] = why

    def close_gate(self, ends: Mapping[TopicPartition, int], max_hold: timedelta) -> int:  # noqa: ARG002 - it has no clock
        positions = self.positions(ends)
        new = {
            position.origin: ends[partition]
            for partition, position in positions.items()
            if position.next_offset < ends[partition] and position.origin not in (self._targets | self.halted)
        }
        self._targets |= new
        return len(new)

    def gate(self) -> int:
        return len(self._targets.keys() - self.halted.keys())

    def fold(self, batch: Batch) -> FoldResult:
        for move in batch.moves:
            if self._next.get(move.origin) != move.expected:
                raise PositionsMoved(
                    f"origin {move.origin}: expected {move.expected}, not {self._next.get(move.origin)}"
                )
        result = FoldResult()
        touched: dict[str, list[tuple[Lane, int | None]]] = {}
        changed: dict[tuple[str, str], StagedRow] = {}
        for rows in batch.rounds:
            for row in [row for row in rows if self._upsert(row, result, touched, changed)]:
                self._carry_over((row.source, row.key), row)
        self._resolve(touched, changed)
        for lane in Lane:
            self._refresh(
                touched, [name for name, row in changed.items() if row.backfill == (lane is Lane.BACKFILL)], lane
            )
        for order, touches in touched.items():
            commits = [commit for _, commit in touches if commit is not None]
            self._mark(order, min(lane for lane, _ in touches), min(commits, default=None))
        self.rejects += batch.rejects
        self._next.update({move.origin: move.next for move in batch.moves})
        self._targets = {origin: target for origin, target in self._targets.items() if self._next[origin] < target}
        result.orders = len(touched)
        return result

    def recent_rejects(self, window: timedelta) -> dict[str, int]:  # noqa: ARG002 - all of them are recent
        counts: dict[str, int] = {}
        for _, reject in self.rejects:
            counts[reject.message.topic] = counts.get(reject.message.topic, 0) + 1
        return counts

    def purge_rejects(self, keep: timedelta) -> int:  # noqa: ARG002 - all of them are recent
        return 0

    def see_columns(self, seen: Iterable[tuple[str, str, str]]) -> None:
        self.columns |= set(seen)

    def close(self) -> None:
        pass

    def _upsert(
        self,
        row: StagedRow,
        result: FoldResult,
        touched: dict[str, list[tuple[Lane, int | None]]],
        changed: dict[tuple[str, str], StagedRow],
    ) -> bool:
        """Whether the row was not stale."""
        name = (row.source, row.key)
        stored = self.rows.get(name)
        generation = self.generations.get(row.source, 0)
        repeated = stored is not None and stored.deleted and row.kind is Kind.TOMBSTONE
        if stored is not None and stored.generation == generation and (repeated or is_stale(row.mark, stored.mark)):
            result.stale.update((row.mark.origin, op) for op in row.ops)
            return False
        result.folded.update((row.mark.origin, op) for op in row.ops)
        new = _folded(row, stored, generation)
        self.rows[name] = new
        same = stored is not None and (stored.columns, stored.unknown, stored.deleted, stored.root, stored.parent) == (
            new.columns,
            new.unknown,
            new.deleted,
            new.root,
            new.parent,
        )
        if not same:
            changed[name] = row
            for root in {new.root, stored.root if stored else None} - {None}:
                _touch(touched, root, [row])
        return True

    def _carry_over(self, name: tuple[str, str], row: StagedRow) -> None:
        new = self.rows[name]
        old = self.rows.get((row.source, row.old_key)) if row.old_key is not None else None
        if old is not None and new.unknown and ALL_UNKNOWN not in (new.unknown, old.unknown):
            new.columns |= {column: old.columns[column] for column in new.unknown if column in old.columns}
            new.unknown = tuple(column for column in new.unknown if column not in old.columns)

    def _resolve(
        self, touched: dict[str, list[tuple[Lane, int | None]]], changed: dict[tuple[str, str], StagedRow]
    ) -> None:
        assert self._structure is not None  # noqa: S101 - opened before it folds
        moved = True
        while moved:
            moved = False
            for (source, _), row in self.rows.items():
                owner = self._structure.sources[source].owner
                if owner is None or row.parent is None:
                    continue
                parent = self.rows.get((owner.target, row.parent))
                if parent is not None and parent.root is not None and parent.root != row.root:
                    for root in {row.root, parent.root} - {None}:
                        _touch(touched, root, changed.values())
                    row.root, moved = parent.root, True

    def _refresh(
        self, touched: dict[str, list[tuple[Lane, int | None]]], changed: Sequence[tuple[str, str]], lane: Lane
    ) -> None:
        hashes = {row_hash(*name) for name in changed}
        roots: set[str] = set()
        seen: set[int] = set()
        while hashes - seen:
            seen |= hashes
            found = {name: row for name, row in self.rows.items() if hashes & set(row.refs)}
            roots |= {row.root for row in found.values() if row.root is not None}
            hashes = {row_hash(*name) for name in found}
        for root in roots:
            touched.setdefault(root, []).append((Lane.BACKFILL if len(roots) > MASS_CHANGE else lane, None))


def _folded(row: StagedRow, stored: MemoryRow | None, generation: int) -> MemoryRow:
    """The row after a change that is not stale."""
    if row.kind is Kind.UPSERT:
        usable = stored is not None and not stored.deleted and stored.unknown != ALL_UNKNOWN
        before = stored.columns if stored is not None and usable else {}
        columns = row.columns | {name: before[name] for name in row.unknown if name in before}
        unknown = tuple(name for name in row.unknown if name not in before)
        root = row.root
        if stored is not None and root is None and row.parent is not None and stored.parent == row.parent:
            root = stored.root
        new = MemoryRow(columns, unknown, False, root, row.parent, row.refs, row.mark, row.first_seen_ms)
    elif row.kind is Kind.UNKNOWN:
        # Its own offset stays open, so that it can be folded after all once it can be decoded.
        before_it = replace(row.mark, offset=row.mark.offset - 1)
        new = MemoryRow({}, ALL_UNKNOWN, False, row.root, None, (), before_it, None)
        if stored is not None:
            new.columns, new.deleted = stored.columns, stored.deleted
            new.root, new.parent, new.refs = stored.root, stored.parent, stored.refs
    else:
        new = MemoryRow({}, (), True, row.root, None, (), row.mark, None)
        if stored is not None:
            new.root, new.parent = stored.root, stored.parent
            new.columns = stored.columns if row.keep_columns else {}
    if stored is not None:
        seen = [ms for ms in (stored.first_seen_ms, new.first_seen_ms) if ms is not None]
        new.first_seen_ms = min(seen, default=None)
        if row.mark.position is None and stored.generation == generation:
            new.mark = Mark(
                new.mark.origin, new.mark.offset, stored.mark.lineage, stored.mark.position, stored.mark.committed_ms
            )
    if row.kind is Kind.TOMBSTONE:
        new.mark = Mark(row.mark.origin, row.mark.offset, None, CLEARED, None)
    new.generation = generation
    return new


def _touch(touched: dict[str, list[tuple[Lane, int | None]]], root: str | None, rows: Iterable[StagedRow]) -> None:
    if root is not None:
        touches = touched.setdefault(root, [])
        touches += [(Lane.BACKFILL if row.backfill else Lane.LIVE, row.first_commit_ms) for row in rows]
