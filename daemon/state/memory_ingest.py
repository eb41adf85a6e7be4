"""The ingest store in memory, for simulation and for tests of everything above it.

It passes the same contract suite as the one on Postgres. Orders are marked through `mark`, so that whoever simulates
delivery keeps the records.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import TypeAlias

from daemon.errors import PositionsMoved
from daemon.ingest.change import Kind, Reject
from daemon.ingest.fold import ALL_UNKNOWN, CLEARED, Mark, StagedRow, is_stale, row_hash
from daemon.mapping.structure import Step, Structure
from daemon.state.era import Era, Mirrored, signature
from daemon.state.ingest_store import MASS_CHANGE, SNAPSHOT_READ, Batch, FoldResult, Position, Rounds, TopicPartition
from daemon.state.layout import Round
from daemon.state.memory_rows import MemoryRow, MemoryRows, Name
from daemon.state.schedule import Lane

MarkOrder = Callable[[str, Lane, "int | None"], None]
"""(order key, lane, commit time in epoch milliseconds)"""

_Touched: TypeAlias = dict[str, list[tuple[Lane, "int | None"]]]
"""Why each order becomes due: (lane, commit time in epoch milliseconds) of every change that touches it."""


class MemoryIngestStore:
    """`IngestStore` over dicts. One transaction at a time, whole or not at all."""

    def __init__(self, mark: MarkOrder) -> None:
        self.rows = MemoryRows()
        self.rejects: list[tuple[str, Reject]] = []
        self.columns: set[tuple[str, str, str]] = set()
        self._positions: dict[TopicPartition, Position] = {}
        self.generations: dict[str, int] = {}
        """By source; a rebuild raises them. Sources that are not in here are in generation 0."""
        self.halted: dict[int, str] = {}
        self._next: dict[int, int] = {}
        self.furthest: dict[int, int] = {}
        """By origin, the highest next offset that was ever stood at."""
        self._era, self._targeted, self._replaying = 0, True, False
        self._targets: dict[int, int] = {}
        self._mark = mark
        self._above: dict[str, list[Step]] = {}
        self._below: dict[str, list[Step]] = {}
        self._shared_above: dict[str, list[Step]] = {}
        self._followed: set[str] = set()

    def open(self, structure: Structure, destinations: Sequence[str]) -> None:  # noqa: ARG002 - they are `mark`'s affair
        self._followed = {link.target for source in structure.sources.values() for link in source.refs}
        self._above, self._below, self._shared_above = {}, {}, {}
        for step in structure.steps(shared=False):
            self._above.setdefault(step.child, []).append(step)
            self._below.setdefault(step.above, []).append(step)
        for step in structure.steps(shared=True):
            self._shared_above.setdefault(step.child, []).append(step)

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
            elif partition.topic_id not in incarnations:
                if self._was_read(asked.topic):
                    continue
                for known, position in self._positions.items():
                    if known.topic == asked.topic:
                        self._targets.pop(position.origin, None)
            origin = self._positions.setdefault(partition, Position(len(self._positions) + 1, -1)).origin
            found[asked] = Position(origin, self._next.setdefault(origin, -1))
        return found

    def _was_read(self, topic: str) -> bool:
        return any(
            self._next[position.origin] > 0 for known, position in self._positions.items() if known.topic == topic
        )

    def reset(self, partition: TopicPartition, next_offset: int) -> None:
        """What an operator does: go on from here, whatever the topic's incarnation."""
        origin = self._positions.setdefault(partition, Position(len(self._positions) + 1, -1)).origin
        self._next[origin] = next_offset
        self.furthest[origin] = max(self.furthest.get(origin, -1), next_offset)
        self._targets.pop(origin, None)
        self.halted.pop(origin, None)

    def note_read(self, ends: Mapping[int, int]) -> None:
        for origin, end in ends.items():
            if self._next[origin] >= end:
                self._targets.pop(origin, None)

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

    def era(self) -> Era:
        self._replaying = self._replaying and not (self._targeted and not self._targets)
        return Era(self._era, "memory", 0.0, "", self._targeted, self._replaying)

    def follow_mirror(self, mirrored: Mapping[TopicPartition, Mirrored]) -> Era:
        present, ahead = self.era(), False
        for asked, one in mirrored.items():
            ours = one.by == signature(present, asked.topic_id)
            for position in self.positions([asked]).values() if ours or not one.by else ():
                furthest = self.furthest.get(position.origin, -1)
                ahead = ahead or (one.offset > furthest and (ours or furthest >= 0))
                self.furthest[position.origin] = max(furthest, one.offset)
        if ahead and self._targeted:
            self._era += 1
            self._targeted, self._replaying = False, True
        return self.era()

    def replay(self, ends: Mapping[TopicPartition, int]) -> Era:
        if not self._targeted:
            self._targeted = True
            for partition, position in self.positions(ends).items():
                if position.next_offset < ends[partition]:
                    self._targets[position.origin] = max(self._targets.get(position.origin, -1), ends[partition])
        return self.era()

    def lay_out(self, rounds: Rounds) -> Sequence[Round]:  # noqa: ARG002 - rows are folded as they are
        return []

    def fold(self, batch: Batch) -> FoldResult:
        for move in batch.moves:
            if self._next.get(move.origin) != move.expected:
                raise PositionsMoved(
                    f"origin {move.origin}: expected {move.expected}, not {self._next.get(move.origin)}"
                )
        result = FoldResult()
        for rounds in [[one] for one in batch.rounds] if batch.replay else [batch.rounds]:
            self._apply(rounds, result, replay=batch.replay)
        self.rejects += batch.rejects
        self._next.update({move.origin: move.next for move in batch.moves})
        for move in batch.moves:
            self.furthest[move.origin] = max(self.furthest.get(move.origin, -1), move.next)
        self.halted = {o: why for o, why in self.halted.items() if o not in {move.origin for move in batch.moves}}
        self._targets = {origin: target for origin, target in self._targets.items() if self._next[origin] < target}
        return result

    def _apply(self, rounds: Sequence[Sequence[StagedRow]], result: FoldResult, *, replay: bool) -> None:
        touched: _Touched = {}
        changed: dict[Name, StagedRow] = {}
        for rows in rounds:
            applied = [row for row in rows if self._upsert(row, result, touched, changed, replay=replay)]
            for row in applied:
                if row.old_key is not None:
                    self._take_over((row.source, row.key), row.old_key)
            for row in applied:
                if row.new_key is not None:
                    self._hand_over(row, row.new_key, touched, changed)
        of_lane = {lane: {name: row for name, row in changed.items() if row.backfill == bool(lane)} for lane in Lane}
        for lane in Lane:
            self._resolve(of_lane[lane], touched)
        for lane in Lane:
            self._refresh(of_lane[lane], lane, touched)
        for order, touches in touched.items():
            commits = [commit for _, commit in touches if commit is not None]
            self._mark(order, min(lane for lane, _ in touches), min(commits, default=None))

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
        touched: _Touched,
        changed: dict[Name, StagedRow],
        *,
        replay: bool = False,
    ) -> bool:
        """Whether the row was not stale."""
        name = (row.source, row.key)
        stored = self.rows.get(name)
        generation = self.generations.get(row.source, 0)
        if stored is not None and stored.generation == generation and _contains(stored, row):
            for op in row.ops:
                result.stale[row.mark.origin, op] += 1
            return False
        for op in row.ops:
            result.folded[row.mark.origin, op] += 1
        new = _folded(row, stored, generation)
        self.rows.put(name, new)
        same = stored is not None and (stored.columns, stored.unknown, stored.deleted, stored.root, stored.parent) == (
            new.columns,
            new.unknown,
            new.deleted,
            new.root,
            new.parent,
        )
        if not same or (replay and any(op != SNAPSHOT_READ for op in row.ops)):
            changed[name] = row
            for version in (stored, new):
                for above in self._hangs_below(name[0], version, self._shared_above):
                    changed.setdefault(above, row)
            for root in {new.root, stored.root if stored else None} - {None}:
                _touch(touched, root, [row])
        return True

    def _take_over(self, name: Name, old_key: str) -> None:
        """Give the row of a new key what it lacks, if the row of the old key was deleted for it already."""
        row = self.rows[name]
        if not row.unknown:
            return
        old = self.rows.get((name[0], old_key))
        if old is not None and old.deleted and old.heir == name[1]:
            self.rows.put(name, _filled(row, old))
        else:
            self.rows.put(name, replace(row, awaits=(old_key, name[1])))

    def _hand_over(self, row: StagedRow, new_key: str, touched: _Touched, changed: dict[Name, StagedRow]) -> None:
        """Give what a row that was deleted for a new key knows to those that wait for it."""
        old = self.rows[row.source, row.key]
        for name in self.rows.awaiting(row.source, row.key, new_key):
            new = _filled(self.rows[name], old)
            self.rows.put(name, new)
            if not new.deleted:
                changed.setdefault(name, row)
                _touch(touched, new.root, [row])

    def _resolve(self, changed: Mapping[Name, StagedRow], touched: _Touched) -> None:
        """Give changed rows below other owned rows their root, and theirs below them, until nothing moves any more."""
        moving: Iterable[Name] = [*changed, *(below for name in changed for below in self._children(name))]
        while moving:
            moved = [name for name in moving if self._follows(name, changed, touched)]
            moving = [below for name in moved for below in self._children(name)]

    def _children(self, name: Name) -> list[Name]:
        steps = self._below.get(name[0], ())
        return [row for step in steps for row in self.rows.below(step.child, step.prefix + name[1])]

    @staticmethod
    def _hangs_below(source: str, row: MemoryRow | None, steps: Mapping[str, Sequence[Step]]) -> list[Name]:
        """The rows that a row may hang below, by steps from its source."""
        parent = row.parent if row is not None else None
        if parent is None:
            return []
        return [(s.above, parent.removeprefix(s.prefix)) for s in steps.get(source, ()) if parent.startswith(s.prefix)]

    def _follows(self, name: Name, changed: Mapping[Name, StagedRow], touched: _Touched) -> bool:
        """Whether the row took over another root from the row that it hangs below."""
        row = self.rows.get(name)
        for above in self._hangs_below(name[0], row, self._above):
            root = self.rows[above].root if above in self.rows else None
            if row is not None and root not in (None, row.root):
                self.rows.put(name, replace(row, root=root))
                for one in (row.root, root):
                    _touch(touched, one, changed.values())
                return True
        return False

    def _refresh(self, changed: Iterable[Name], lane: Lane, touched: _Touched) -> None:
        new = set(changed)
        roots: dict[str, None] = {}
        seen: set[Name] = set()
        while new:
            seen |= new
            found = self.rows.that_look_up(sorted(row_hash(*name) for name in new if name[0] in self._followed))
            roots |= {root: None for name in found if (root := self.rows[name].root) is not None}
            shared = {name for name in found if self.rows[name].root is None}
            above = (self._hangs_below(name[0], self.rows.get(name), self._shared_above) for name in new)
            new = shared.union(*above) - seen
        for root in roots:
            touched.setdefault(root, []).append((Lane.BACKFILL if len(roots) > MASS_CHANGE else lane, None))


def _contains(stored: MemoryRow, row: StagedRow) -> bool:
    if stored.deleted and row.kind is Kind.TOMBSTONE:
        return True
    return is_stale(row.mark, stored.mark, revives=stored.deleted and row.kind is Kind.UPSERT)


def _folded(row: StagedRow, stored: MemoryRow | None, generation: int) -> MemoryRow:
    """The row after a change that is not stale."""
    mark, seen_ms = row.mark, row.first_seen_ms
    if stored is not None:
        if mark.position is None and stored.generation == generation:
            old = stored.mark
            mark = Mark(mark.origin, mark.offset, old.lineage, old.position, old.committed_ms)
        if seen_ms is None or (stored.first_seen_ms is not None and stored.first_seen_ms < seen_ms):
            seen_ms = stored.first_seen_ms
    if row.kind is Kind.UPSERT:
        return _upserted(row, stored, mark, seen_ms, generation)
    if row.kind is Kind.UNKNOWN:
        # Its own offset stays open, so that it can be folded after all once it can be decoded.
        mark = replace(mark, offset=mark.offset - 1)
        new = stored or MemoryRow({}, (), False, row.root, None, (), mark, None)
        return replace(new, unknown=ALL_UNKNOWN, mark=mark, first_seen_ms=seen_ms, generation=generation, awaits=None)
    if row.kind is Kind.TOMBSTONE:
        mark = Mark(mark.origin, mark.offset, None, CLEARED, None)
    new = MemoryRow({}, (), True, row.root, None, (), mark, seen_ms, generation, row.new_key)
    if stored is None:
        return new
    new = replace(new, root=stored.root, parent=stored.parent)
    if row.new_key is not None and stored.unknown != ALL_UNKNOWN:
        new = replace(new, columns=stored.columns, awaits=stored.awaits)
    return new


def _upserted(row: StagedRow, stored: MemoryRow | None, mark: Mark, seen_ms: int | None, generation: int) -> MemoryRow:
    columns, unknown, root, awaits = row.columns, row.unknown, row.root, None
    if stored is not None:
        # Only a replay from the middle of its life finds a row that was deleted for an heir and leaves values out.
        kept = stored.heir is not None and row.old_key is None
        if unknown and (kept or not stored.deleted) and stored.unknown != ALL_UNKNOWN:
            columns = columns | {name: stored.columns[name] for name in unknown if name in stored.columns}
            unknown = tuple(name for name in unknown if name not in stored.columns)
            awaits = stored.awaits if unknown else None
        if root is None and row.parent is not None and stored.parent == row.parent:
            root = stored.root
    return MemoryRow(columns, unknown, False, root, row.parent, row.refs, mark, seen_ms, generation, awaits=awaits)


def _filled(row: MemoryRow, old: MemoryRow) -> MemoryRow:
    """The row with what it lacks and the row of its old key knows; for the rest it waits like that one."""
    if row.deleted:
        return replace(row, columns=old.columns | row.columns, awaits=old.awaits)
    columns = row.columns | {name: old.columns[name] for name in row.unknown if name in old.columns}
    unknown = tuple(name for name in row.unknown if name not in old.columns)
    return replace(row, columns=columns, unknown=unknown, awaits=old.awaits if unknown else None)


def _touch(touched: _Touched, root: str | None, rows: Iterable[StagedRow]) -> None:
    if root is not None:
        touches = touched.setdefault(root, [])
        touches += [(Lane.BACKFILL if row.backfill else Lane.LIVE, row.first_commit_ms) for row in rows]
