"""The fold's side of Postgres: one transaction per batch, in the order that `PostgresIngestStore.fold` numbers."""

from __future__ import annotations

import base64
import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from itertools import chain
from typing import Any, Protocol, Self, TypeAlias

import orjson
import psycopg

from daemon.errors import PositionsMoved, SettingsError, StateUnavailable, Superseded
from daemon.ingest.change import Message, Reject
from daemon.ingest.fold import StagedRow, placer, row_hash
from daemon.mapping.erasure import Eraser
from daemon.mapping.model import Mapping as Rules
from daemon.mapping.structure import Step, Structure
from daemon.settings import Postgres, Settings
from daemon.state import era as eras
from daemon.state.database import Cursor, Row, connect, exact_json, transaction
from daemon.state.era import Era, Mirrored, Server, signature
from daemon.state.erase import NO_KEY, Name, StateEraser, eraser_of
from daemon.state.layout import Round, Touched, array, lay_out, says_its_order, texts
from daemon.state.layout import touched as touched_by
from daemon.state.queries import queries
from daemon.state.schedule import DebouncePolicy, Lane

_SQL = queries("ingest.sql")

SNAPSHOT_READ = "r"
"""The op of a row that is told again, changed or not."""

MASS_CHANGE = 100
"""Changed look-ups that touch more orders than this in one batch (a product renamed) are backfill: they must not crowd
out the orders that changed themselves."""


@dataclass(frozen=True, slots=True)
class TopicPartition:
    """A partition of one incarnation of a topic; `topic_id` is "" where the broker does not tell it."""

    topic: str
    topic_id: str
    partition: int


@dataclass(frozen=True, slots=True)
class Position:
    """Where consumption of a partition goes on. `origin` is the number that rows carry.

    `read_ms`, epoch milliseconds: when the partition was last known to be read to its end, or else was met.
    """

    origin: int
    next_offset: int
    read_ms: int = 0


@dataclass(slots=True)
class Move:
    """One partition's move in a batch: from `expected` to `next`, over so many skipped and rejected messages."""

    origin: int
    expected: int
    next: int
    skipped: int = 0
    rejected: int = 0


@dataclass(frozen=True, slots=True)
class Batch:
    """What one transaction folds: rounds of staged rows, rejects with their topic id, and the positions to move.

    `replay`: what is read here may have been read before, and sent, in a future that was lost. Every order that it
    touches is due then, whatever comes out in the end; its changes are not coalesced.
    """

    rounds: Sequence[Sequence[StagedRow]]
    rejects: Sequence[tuple[str, Reject]]
    moves: Sequence[Move]
    replay: bool = False
    ahead: Sequence[Round] = ()
    """The rounds as `IngestStore.lay_out` made them, if that was done ahead."""


@dataclass(slots=True)
class FoldResult:
    """What became of a batch: changes per (origin, op)."""

    folded: Counter[tuple[int, str]] = field(default_factory=Counter)
    stale: Counter[tuple[int, str]] = field(default_factory=Counter)


Rounds: TypeAlias = "Sequence[Sequence[StagedRow]]"
Attempt: TypeAlias = (
    "Callable[[list[tuple[int, int, Message]]], tuple[list[list[StagedRow]], list[int], dict[int, Reject]]]"
)


class IngestStore(Protocol):
    """What ingest needs of the state. Every call may raise StateUnavailable, and then had no effect.

    `fold` and `positions` raise Superseded where another mapping than this process's is in force.
    """

    def open(self, structure: Structure, destinations: Sequence[str]) -> None:
        """Learn the sources' and destinations' numbers."""

    def positions(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, Position]:
        """Where each partition stands; one never met before stands at -1, its beginning.

        Partitions of a topic that the state knows by other ids only are left out: the topic was recreated.
        """

    def note_read(self, ends: Mapping[int, int]) -> None:
        """These partitions (by origin) are read to these ends, which are their ends now."""

    def halt(self, origins: Sequence[int], why: str | None) -> None:
        """Write down why these partitions stand still, or (None) that they go on. Halted ones do not hold the gate."""

    def close_gate(self, ends: Mapping[TopicPartition, int], max_hold: timedelta) -> int:
        """Hold delivery until every partition that is below its end now has reached it, or `max_hold` is over.

        A target that stands is not moved. Returns how many partitions got one.
        """

    def gate(self) -> int:
        """How many partitions hold delivery."""

    def era(self) -> Era:
        """The present era. A new one begins where the server is another one than this state was on."""

    def follow_mirror(self, mirrored: Mapping[TopicPartition, Mirrored]) -> Era:
        """The present era. A new one begins where the group has read what this state knows nothing of.

        `mirrored` was asked for before the positions of this state were last read, so that none is ahead by itself.
        """

    def replay(self, ends: Mapping[TopicPartition, int]) -> Era:
        """Note that all until these ends is read again in the present era, unless that is noted already."""

    def lay_out(self, rounds: Rounds) -> Sequence[Round]:
        """What can be done ahead of the fold of these rounds, by another thread."""

    def fold(self, batch: Batch) -> FoldResult:
        """Fold one batch whole, or not at all. Raises PositionsMoved if a position is not as expected."""

    def recent_rejects(self, window: timedelta) -> dict[str, int]:
        """Unresolved rejects per topic within the window."""

    def purge_rejects(self, keep: timedelta) -> int:
        """Remove a page of rejects older than that; how many."""

    def see_columns(self, seen: Iterable[tuple[str, str, str]]) -> None:
        """Note (source, column, type) as seen."""

    def close(self) -> None:
        """Give the connection back. May be called twice."""


class PostgresIngestStore:
    """`IngestStore` on Postgres. One connection, used by one thread.

    With a `mapping_version`, folds only while that is the mapping in force.
    """

    def __init__(
        self,
        settings: Postgres,
        debounce: DebouncePolicy,
        mapping_version: str | None = None,
        erasing: tuple[Eraser, Rules] | None = None,
    ) -> None:
        """`erasing`: by what customers are erased; needed once one was."""
        self._settings = settings
        self._debounce = debounce
        self._mapping_version = mapping_version
        self._erasing = erasing
        self._connection: psycopg.Connection[Row] | None = None
        self._server: Server | None = None
        self._lineages: dict[str, int] = {}
        self._sources: dict[str, int] = {}
        self._names: dict[int, str] = {}
        self._destinations: list[int] = []
        self._structure: Structure | None = None
        self._hashed: frozenset[str] = frozenset()
        self._followed: frozenset[str] = frozenset()
        self._heard: list[int] = []
        self._below: dict[str, list[Step]] = {}
        self._above: dict[str, list[Step]] = {}
        self._shared_above: dict[str, list[Step]] = {}

    @classmethod
    def under(cls, settings: Settings, mapping: Rules) -> Self:
        """The store of a process with these settings and this mapping."""
        eraser = eraser_of(settings, mapping)
        debounce = settings.debounce
        policy = DebouncePolicy(timedelta(seconds=debounce.quiet_secs), timedelta(seconds=debounce.max_wait_secs))
        erasing = None if eraser is None else (eraser, mapping)
        return cls(settings.postgres, policy, mapping.version, erasing)

    def open(self, structure: Structure, destinations: Sequence[str]) -> None:
        """Learn the numbers of sources and destinations; the destinations must be registered already.

        Raises SettingsError where customers were erased by a key that this process does not have.
        """
        self._structure = structure
        self._hashed = frozenset(source.name for source in structure.sources.values() if source.hashed)
        self._followed = frozenset(link.target for source in structure.sources.values() for link in source.refs)
        self._below, self._above, self._shared_above = {}, {}, {}
        for step in structure.steps(shared=False):
            self._above.setdefault(step.child, []).append(step)
            self._below.setdefault(step.above, []).append(step)
        for step in structure.steps(shared=True):
            self._shared_above.setdefault(step.child, []).append(step)
        heard = self._followed | self._below.keys() | self._above.keys() | self._shared_above.keys()
        with self._transaction() as cursor:
            cursor.execute(_SQL["register_sources"], {"names": sorted(structure.sources)})
            cursor.execute(_SQL["read_sources"])
            self._names = dict(cursor.fetchall())
            self._sources = {name: number for number, name in self._names.items()}
            self._heard = sorted(self._sources[name] for name in heard)
            cursor.execute(_SQL["read_mapping_in_force"])
            if any(erasing for _, erasing in cursor.fetchall()):
                self._eraser().check_key(cursor)
            cursor.execute(_SQL["destinations"], {"names": list(destinations)})
            found = {name: number for number, name in cursor.fetchall()}
        if missing := sorted(set(destinations) - found.keys()):
            raise StateUnavailable(f"destination {missing[0]} is not registered yet")
        self._destinations = sorted(found.values())

    def positions(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, Position]:
        wanted = list(partitions)
        with self._transaction() as cursor:
            cursor.execute(_SQL["read_mapping_in_force"])
            self._refuse_superseded([version for version, _ in cursor.fetchall()])
            known = self._known(cursor, wanted)
            cursor.execute(_SQL["adopt_topic_ids"], _partition_arrays(known))
            cursor.execute(_SQL["register_origins"], _partition_arrays(known))
            cursor.execute(_SQL["read_positions"], _partition_arrays(known))
            found = {
                TopicPartition(topic, topic_id, partition): Position(origin, next_offset, read_ms)
                for topic, topic_id, partition, origin, next_offset, read_ms in cursor.fetchall()
            }
        return {asked: found[named] for asked, named in zip(wanted, known, strict=True) if named in found}

    def note_read(self, ends: Mapping[int, int]) -> None:
        with self._transaction() as cursor:
            cursor.execute(_SQL["note_read"], {"origins": list(ends), "ends": list(ends.values())})

    def halt(self, origins: Sequence[int], why: str | None) -> None:
        with self._transaction() as cursor:
            cursor.execute(_SQL["halt"], {"origins": list(origins), "why": why})

    def close_gate(self, ends: Mapping[TopicPartition, int], max_hold: timedelta) -> int:
        partitions = list(ends)
        with self._transaction() as cursor:
            known = self._known(cursor, partitions)
            arrays = _partition_arrays(known)
            cursor.execute(_SQL["register_origins"], arrays)
            targets = [ends[partition] for partition in partitions]
            cursor.execute(_SQL["close_gate"], {**arrays, "targets": targets, "max_hold": max_hold})
            return cursor.rowcount

    def gate(self) -> int:
        with self._transaction() as cursor:
            cursor.execute(eras.SQL["end_replay"])
            cursor.execute(_SQL["gate"])
            [(count,)] = cursor.fetchall()
            return int(count)

    def era(self) -> Era:
        return self._carried_out(eras.following(self._asked_server()))

    def follow_mirror(self, mirrored: Mapping[TopicPartition, Mirrored]) -> Era:
        server, present = self._asked_server(), self.era()
        ours = {asked: one.by == signature(present, asked.topic_id) for asked, one in mirrored.items()}
        # What is another's says nothing of this state; one that does not say whose it is may.
        counts = [asked for asked, one in mirrored.items() if ours[asked] or not one.by]
        with self._transaction() as cursor:
            known = self._known(cursor, counts)
        parameters = {
            **_partition_arrays(known),
            "mirrored": [mirrored[asked].offset for asked in counts],
            "ours": [ours[asked] for asked in counts],
        }
        return self._carried_out(eras.going_ahead(parameters, server))

    def replay(self, ends: Mapping[TopicPartition, int]) -> Era:
        with self._transaction() as cursor:
            arrays = _partition_arrays(self._known(cursor, list(ends)))
            cursor.execute(_SQL["register_origins"], arrays)
        return self._carried_out(eras.replaying({**arrays, "targets": list(ends.values())}))

    def _carried_out(self, steps: eras.Steps) -> Era:
        with self._transaction() as cursor:
            found = eras.carried_out(cursor, steps)
        eras.tell(found)
        return found

    def _asked_server(self) -> Server:
        """Asked once on each connection: a server that was restored or took over is met by a new one."""
        connection = self._connected()
        if self._server is None:
            self._server = eras.server_of(connection, self._settings)
        return self._server

    def _known(self, cursor: Cursor, partitions: Sequence[TopicPartition]) -> list[TopicPartition]:
        """The partitions with the newest known topic id where the broker tells none."""
        untold = sorted({partition.topic for partition in partitions if not partition.topic_id})
        if not untold:
            return list(partitions)
        cursor.execute(_SQL["newest_topic_ids"], {"topics": untold})
        newest: dict[str, str] = dict(cursor.fetchall())
        return [p if p.topic_id else replace(p, topic_id=newest.get(p.topic, "")) for p in partitions]

    def hold_mapping(self, cursor: Cursor) -> bool:
        """Keep the mapping in force what it is until this transaction ends. Raises Superseded where it is another.

        Whether customers were erased; no other one is before this transaction ends.
        """
        cursor.execute(_SQL["hold_mapping_in_force"])
        found = cursor.fetchall()
        self._refuse_superseded([version for version, _ in found])
        return any(erasing for _, erasing in found)

    def _eraser(self) -> StateEraser:
        if self._erasing is None:
            raise SettingsError(NO_KEY)
        return StateEraser(*self._erasing, self._sources)

    def _refuse_superseded(self, versions: Iterable[str]) -> None:
        for version in versions:
            if version and self._mapping_version not in (None, version):
                raise Superseded(
                    f"mapping {version[:12]} is in force now, this process has {str(self._mapping_version)[:12]}; "
                    f"`order-sync migrate` puts the present one in force"
                )

    def lay_out(self, rounds: Rounds) -> Sequence[Round]:
        return [lay_out(rows, self._sources) for rows in rounds]

    def fold(self, batch: Batch) -> FoldResult:
        """One transaction:

        1. lock the batch's positions and compare them with what this consumer expects; where customers were erased,
           take out of the batch what it says of them;
        2. upsert the rows, round by round, in key order;
        3. take the mirror's lock, then carry values over key changes, before the round that follows;
        4. resolve roots level by level, also of rows that waited;
        5. mark the touched orders due, and those that look changed rows up; erase what is left of erased customers;
        6. keep the rejects;
        7. move the positions.
        """
        self._learn_lineages(batch.rounds)
        result = FoldResult()
        with self._transaction() as cursor:
            eraser = self._eraser() if self._expect(cursor, batch.moves) else None
            # What is read again goes round by round: each order that a row passed by is touched, as it was before.
            parts = [slice(n, n + 1) for n in range(len(batch.rounds))] if batch.replay else [slice(None)]
            for part in parts:
                rounds, ahead = batch.rounds[part], batch.ahead[part]
                self._fold_rounds(cursor, rounds, result, eraser, ahead, replay=batch.replay)
            self._keep(cursor, batch.rejects, eraser)
            self._move(cursor, batch.moves, result)
        return result

    def retry(self, after: int, ids: Sequence[int] | None, limit: int, attempt: Attempt) -> tuple[int, FoldResult]:
        """Decode a page of open rejects anew and fold what succeeds, each where it stood in its partition.

        `attempt` gets (id, origin, message) of each and returns the rounds to fold, the ids resolved, and the new
        rejects of those that failed again, by id. Returns the last id of the page (0: there was none) and what became
        of the resolved ones; one that a later change has overtaken is stale.
        """
        with self._transaction() as cursor:
            cursor.execute(_SQL["resolve_digests"], {"ids": ids and list(ids)})
            cursor.execute(_SQL["rejects_to_retry"], {"after": after, "ids": ids and list(ids), "limit": limit})
            page = [(row[0], row[9], _message(row)) for row in cursor.fetchall()]
        result = FoldResult()
        if not page:
            return 0, result
        rounds, resolved, failed = attempt(page)
        self._learn_lineages(rounds)
        with self._transaction() as cursor:
            eraser = self._eraser() if self.hold_mapping(cursor) else None
            self._fold_rounds(cursor, rounds, result, eraser, late=True)
            cursor.execute(_SQL["resolve_rejects"], {"ids": resolved})
            cursor.execute(
                _SQL["explain_rejects"],
                {
                    "ids": list(failed),
                    "reasons": [str(reject.reason) for reject in failed.values()],
                    "details": [reject.detail for reject in failed.values()],
                },
            )
        return page[-1][0], result

    def record_action(self, who: str, command: str, arguments: dict[str, Any], affected: int) -> None:
        """Note what an operator did."""
        with self._transaction() as cursor:
            cursor.execute(
                _SQL["record_action"],
                {"who": who, "command": command, "arguments": orjson.dumps(arguments).decode(), "affected": affected},
            )

    def _fold_rounds(
        self,
        cursor: Cursor,
        rounds: Rounds,
        result: FoldResult,
        eraser: StateEraser | None,
        ahead: Sequence[Round] = (),
        *,
        late: bool = False,
        replay: bool = False,
    ) -> None:
        """Steps 2 to 5 of `fold`, with what there is to be erased on the way."""
        if eraser is None:
            self._apply(cursor, ahead or self.lay_out(rounds), result, late=late, replay=replay)
            return
        cursor.execute(_SQL["lock_mirror"])
        incoming = eraser.incoming(cursor, rounds)
        touched = self._apply(cursor, self.lay_out(incoming.rounds), result, late=late, replay=replay)
        eraser.follow(cursor, touched, incoming)

    def _apply(
        self, cursor: Cursor, rounds: Sequence[Round], result: FoldResult, *, late: bool, replay: bool
    ) -> list[str]:
        """Steps 2 to 5 of `fold`; the touched orders. `late`: what is folded takes no row into a newer generation."""
        touched = Touched()
        changed: dict[Name, StagedRow] = {}
        for one in rounds:
            halves = self._upsert(cursor, one, touched, changed, result, late=late, replay=replay)
            if halves:
                cursor.execute(_SQL["lock_mirror"])
                self._carry_over(cursor, halves, touched, changed)
        if changed or touched:
            cursor.execute(_SQL["lock_mirror"])
            of_lane = {lane: {n: r for n, r in changed.items() if r.backfill == bool(lane)} for lane in Lane}
            for lane in Lane:
                self._resolve(cursor, of_lane[lane], lane, _earliest_commit(of_lane[lane].values()), touched)
            self._mark(cursor, touched)
            for lane in Lane:
                self._refresh(cursor, of_lane[lane], lane, _earliest_of(of_lane[lane], self._followed), touched)
        return list(touched)

    def relink(self, source: str, after: str, limit: int) -> str | None:
        """Give a page of stored rows of a source, by key after `after`, the place that the structure now says.

        Returns the last key of the page, None where there was none. Orders that gain or lose a row become due.
        """
        assert self._structure is not None  # noqa: S101 - opened before
        place, touched = placer(self._structure, self._structure.sources[source]), Touched()
        with self._transaction() as cursor:
            self.hold_mapping(cursor)
            cursor.execute(_SQL["lock_mirror"])
            cursor.execute(_SQL["rows_to_relink"], {"source": self._sources[source], "after": after, "limit": limit})
            page = cursor.fetchall()
            placed = [(key, *place(key, exact_json(columns))) for key, columns, deleted in page if not deleted]
            cursor.execute(
                _SQL["relink_rows"],
                {
                    "source": self._sources[source],
                    "key": [key for key, _, _, _ in placed],
                    "root": [above for _, above, _, _ in placed],
                    "parent": [parent for _, _, parent, _ in placed],
                    "refs": [array(refs) if refs else None for _, _, _, refs in placed],
                },
            )
            for above, before in cursor.fetchall():
                if above != before:
                    touched.add(above, Lane.BACKFILL, None)
                    touched.add(before, Lane.BACKFILL, None)
            names = [(source, key) for key, _, _, _ in placed]
            self._resolve(cursor, names, Lane.BACKFILL, None, touched)
            self._mark(cursor, touched)
        return page[-1][0] if page else None

    def note_relations(self, source: str, version: str) -> None:
        """All rows of a source follow these relations now. Raises Superseded."""
        with self._transaction() as cursor:
            self.hold_mapping(cursor)
            cursor.execute(_SQL["note_relations"], {"source": self._sources[source], "relations": version})

    def sweep(self, source: str, keys: Sequence[str]) -> tuple[int, int]:
        """Delete ghosts (see `daemon.state.rebuild`) of a source; how many rows, and how many orders became due."""
        touched = Touched()
        with self._transaction() as cursor:
            self.hold_mapping(cursor)
            cursor.execute(_SQL["lock_mirror"])
            cursor.execute(queries("rebuild.sql")["sweep_ghosts"], {"source": source, "keys": list(keys)})
            gone = cursor.fetchall()
            for _, root in gone:
                touched.add(root, Lane.BACKFILL, None)
            self._mark(cursor, touched)
            self._refresh(cursor, [(source, key) for key, _ in gone], Lane.BACKFILL, None, touched)
        return len(gone), len(touched)

    def recent_rejects(self, window: timedelta) -> dict[str, int]:
        with self._transaction() as cursor:
            cursor.execute(_SQL["recent_rejects"], {"window": window})
            return dict(cursor.fetchall())

    def purge_rejects(self, keep: timedelta) -> int:
        with self._transaction() as cursor:
            cursor.execute(_SQL["purge_rejects"], {"keep": keep})
            return cursor.rowcount

    def see_columns(self, seen: Iterable[tuple[str, str, str]]) -> None:
        rows = [(self._sources[source], name, kind) for source, name, kind in seen]
        with self._transaction() as cursor:
            cursor.execute(
                _SQL["see_columns"],
                {"source": [r[0] for r in rows], "name": [r[1] for r in rows], "type": [r[2] for r in rows]},
            )

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _transaction(self) -> AbstractContextManager[Cursor]:
        return transaction(self._connected(), self._settings)

    def _connected(self) -> psycopg.Connection[Row]:
        if self._connection is None or self._connection.closed or self._connection.broken:
            self._connection = connect(self._settings)
            self._server = None
        return self._connection

    def _learn_lineages(self, rounds: Sequence[Sequence[StagedRow]]) -> None:
        """In a transaction of its own: a lineage that two folds meet at once makes neither wait for the other's end."""
        identities = {row.mark.lineage for rows in rounds for row in rows}
        missing = sorted(identity for identity in identities if identity is not None and identity not in self._lineages)
        if missing:
            with self._transaction() as cursor:
                cursor.execute(_SQL["register_lineages"], {"identities": missing})
                cursor.execute(_SQL["read_lineages"], {"identities": missing})
                self._lineages.update({identity: number for number, identity in cursor.fetchall()})

    def _expect(self, cursor: Cursor, moves: Sequence[Move]) -> bool:
        """Whether customers were erased. Raises PositionsMoved and Superseded."""
        cursor.execute(_SQL["lock_positions"], {"origin": [move.origin for move in moves]})
        found = cursor.fetchall()
        self._refuse_superseded({version for _, _, version, _ in found})
        stored: dict[int, int] = {origin: next_offset for origin, next_offset, _, _ in found}
        for move in moves:
            if stored.get(move.origin) != move.expected:
                raise PositionsMoved(
                    f"origin {move.origin}: expected {move.expected}, the state stands at {stored.get(move.origin)}"
                )
        return any(erasing for _, _, _, erasing in found)

    def _upsert(
        self,
        cursor: Cursor,
        one: Round,
        touched: Touched,
        changed: dict[Name, StagedRow],
        result: FoldResult,
        *,
        late: bool,
        replay: bool,
    ) -> list[StagedRow]:
        """Upsert one round; the halves of key changes in it that were not stale, where values wait to be carried over.

        `changed` gets the rows that other rows hang on: nobody asks for the others.
        """
        rows = one.rows
        hanging = [(row.source, row.key) for row in rows if row.source in self._shared_above]
        before = self._shared_parents(cursor, hanging)
        lineages = [self._lineages[identity] for identity in one.lineages]
        cursor.execute(_SQL["upsert_rows"], {**one.columns, "lineages": lineages, "heard": self._heard, "late": late})
        answer = cursor.fetchall()
        stale = [rows[place - 1] for place in answer[0][1] or ()]
        # What was applied and changed nothing touches nothing either, unless what is read again says so.
        idle = self._look_at(answer, rows, touched, changed, replay=replay)
        behind = {id(row) for row in stale}
        left_out = behind | {id(row) for row in idle}
        direct = touched_by(row for row in rows if id(row) not in left_out) if left_out else one.touched
        touched.join(direct)
        result.folded.update(one.counts)
        for row in stale:
            ops = [(row.mark.origin, op) for op in row.ops]
            result.stale.update(ops)
            result.folded.subtract(ops)
        # A shared row that other shared rows gain or lose counts as changed itself.
        moved = [name for name in hanging if name in changed]
        for parents in (before, self._shared_parents(cursor, moved)):
            for name in moved:
                for above in parents.get(name, ()):
                    changed.setdefault(above, changed[name])
        halves = [row for row in rows if row.new_key is not None or (row.old_key is not None and row.unknown)]
        return [row for row in halves if id(row) not in behind]

    def _look_at(
        self,
        answer: Sequence[Row],
        rows: Sequence[StagedRow],
        touched: Touched,
        changed: dict[Name, StagedRow],
        *,
        replay: bool,
    ) -> list[StagedRow]:
        """Take down what is odd among the applied changes; those that changed nothing."""
        idle = []
        named = {(row.source, row.key): row for row in rows} if answer[0][2] is not None else {}
        for _, _, number, key, root, moved_from, has_changed in answer if named else ():
            row = named[self._names[number], key]
            if not has_changed and not (replay and any(op != SNAPSHOT_READ for op in row.ops)):
                idle.append(row)
                continue
            changed[row.source, key] = row
            lane = int(row.backfill)
            touched.add(moved_from, lane, row.first_commit_ms)
            if not says_its_order(row):
                touched.add(root, lane, row.first_commit_ms)
        return idle

    def _shared_parents(
        self, cursor: Cursor, names: Sequence[tuple[str, str]]
    ) -> dict[tuple[str, str], list[tuple[str, str]]]:
        """The shared rows that these hang below, as they are stored now."""
        if not names:
            return {}
        cursor.execute(
            _SQL["parents"],
            {"source": [self._sources[source] for source, _ in names], "key": [key for _, key in names]},
        )
        found: dict[tuple[str, str], list[tuple[str, str]]] = {}
        for number, key, parent in cursor.fetchall():
            source = self._names[number]
            found[source, key] = [
                (step.above, parent.removeprefix(step.prefix))
                for step in self._shared_above[source]
                if parent.startswith(step.prefix)
            ]
        return found

    def _carry_over(
        self,
        cursor: Cursor,
        halves: Sequence[StagedRow],
        touched: Touched,
        changed: dict[Name, StagedRow],
    ) -> None:
        """Bring the values that a key change left out to the row of the new key, whichever half is folded first."""
        if comers := [row for row in halves if row.old_key is not None]:
            cursor.execute(
                _SQL["take_over_values"],
                {
                    "source": [self._sources[row.source] for row in comers],
                    "key": [row.key for row in comers],
                    "old_key": [row.old_key for row in comers],
                },
            )
        goers = {(self._sources[row.source], row.key): row for row in halves if row.new_key is not None}
        if not goers:
            return
        cursor.execute(
            _SQL["key_changes_awaited"],
            {
                "source": [source for source, _ in goers],
                "key": [key for _, key in goers],
                "new_key": [row.new_key for row in goers.values()],
            },
        )
        # One after the other: a row may have to pass on what it just got.
        for source, key in cursor.fetchall():
            row = goers[source, key]
            cursor.execute(_SQL["hand_over_values"], {"source": source, "key": key, "new_key": row.new_key})
            for _, heir, root, deleted in cursor.fetchall():
                if not deleted:
                    changed.setdefault((row.source, heir), row)
                    touched.add(root, int(row.backfill), row.first_commit_ms)

    def _resolve(
        self, cursor: Cursor, changed: Iterable[Name], lane: Lane, committed: int | None, touched: Touched
    ) -> None:
        """Give rows below other owned rows their root, and theirs below them, until nothing moves any more."""
        waiting = [(name, step) for name in changed for step in self._above.get(name[0], ())]
        parents: list[tuple[str, str]] = [name for name in changed if name[0] in self._below]
        if waiting:
            cursor.execute(
                _SQL["resolve_roots"],
                {
                    "source": [self._sources[source] for (source, _), _ in waiting],
                    "key": [key for (_, key), _ in waiting],
                    "owner": [self._sources[step.above] for _, step in waiting],
                    "prefix": [step.prefix for _, step in waiting],
                },
            )
            parents += self._moved(cursor, touched, lane, committed)
        while pairs := [(step, key) for source, key in parents for step in self._below.get(source, ())]:
            cursor.execute(
                _SQL["resolve_children"],
                {
                    "child": [self._sources[step.child] for step, _ in pairs],
                    "source": [self._sources[step.above] for step, _ in pairs],
                    "key": [key for _, key in pairs],
                    "prefix": [step.prefix for step, _ in pairs],
                },
            )
            parents = self._moved(cursor, touched, lane, committed)

    def _moved(self, cursor: Cursor, touched: Touched, lane: Lane, committed: int | None) -> list[tuple[str, str]]:
        moved = cursor.fetchall()
        for _, _, root, moved_from in moved:
            touched.add(root, lane, committed)
            touched.add(moved_from, lane, committed)
        return [(self._names[number], key) for number, key, _, _ in moved]

    def _refresh(
        self, cursor: Cursor, changed: Iterable[Name], lane: Lane, committed: int | None, touched: Touched
    ) -> None:
        """Mark every order that looks one of these rows up, over however many shared rows the way leads.

        The orders never come here: a country may be looked up by all of them.
        """
        new = {name for name in changed if name[0] in self._followed or name[0] in self._shared_above}
        if not new or not self._destinations:
            return
        cursor.execute(_SQL["no_full_scan"])
        seen: set[tuple[str, str]] = set()
        while new:
            seen |= new
            found = set(
                chain.from_iterable(
                    self._shared_parents(cursor, [n for n in new if n[0] in self._shared_above]).values()
                )
            )
            if followed := [row_hash(*name) for name in new if name[0] in self._followed]:
                cursor.execute(_SQL["shared_that_look_up"], {"hashes": sorted(followed)})
                found |= {(self._names[number], key) for number, key in cursor.fetchall()}
            new = found - seen
        hashes = {row_hash(*name) for name in seen if name[0] in self._followed}
        cursor.execute(
            _SQL["mark_orders_that_look_up"],
            {
                "hashes": sorted(hashes),
                "touched": texts(list(touched)),
                "mass": MASS_CHANGE,
                "lane": int(lane),
                "committed": committed,
                "destinations": self._destinations,
                "quiet": self._debounce.quiet,
                "max_wait": self._debounce.max_wait,
            },
        )
        cursor.execute(_SQL["full_scan"])

    def _mark(self, cursor: Cursor, touched: Touched) -> None:
        if touched and self._destinations:
            cursor.execute(
                _SQL["mark_orders"],
                {
                    **touched.columns(),
                    "destinations": self._destinations,
                    "quiet": self._debounce.quiet,
                    "max_wait": self._debounce.max_wait,
                },
            )

    def _keep(self, cursor: Cursor, rejects: Sequence[tuple[str, Reject]], eraser: StateEraser | None) -> None:
        if rejects:
            rows: set[Name] = {(one.source, one.key) for _, one in rejects if one.source and one.key}
            erased = {} if eraser is None else eraser.erased_keys(cursor, rows)
            kept = [self._reject(topic_id, reject, erased) for topic_id, reject in rejects]
            cursor.executemany(_SQL["keep_rejects"], kept)

    def _reject(self, topic_id: str, reject: Reject, erased: Mapping[Name, str]) -> dict[str, Any]:
        message = reject.message
        headers = [
            [name, None if value is None else base64.b64encode(value).decode()] for name, value in message.headers or ()
        ]
        raw = {
            "key": message.key,
            "value": message.value,
            "headers": orjson.dumps(headers).decode(),
            "digest": None,
        }
        name = (reject.source or "", reject.key or "")
        without_bytes = reject.source in self._hashed or name in erased
        return {
            "topic": message.topic,
            "topic_id": topic_id,
            "partition": message.partition,
            "offset": message.offset,
            "message_ms": message.timestamp_ms,
            "source": self._sources.get(reject.source or ""),
            "row_key": erased.get(name, reject.key),
            "reason": str(reject.reason),
            "detail": reject.detail,
            **(_digest_of(message) if without_bytes else raw),
        }

    def _move(self, cursor: Cursor, moves: Sequence[Move], result: FoldResult) -> None:
        folded, stale = _per_origin(result.folded), _per_origin(result.stale)
        cursor.execute(
            _SQL["move_positions"],
            {
                "origin": [move.origin for move in moves],
                "expected": [move.expected for move in moves],
                "next": [move.next for move in moves],
                "folded": [folded[move.origin] for move in moves],
                "stale": [stale[move.origin] for move in moves],
                "skipped": [move.skipped for move in moves],
                "rejected": [move.rejected for move in moves],
            },
        )
        if cursor.rowcount != len(moves):
            raise PositionsMoved(f"{len(moves) - cursor.rowcount} of {len(moves)} positions moved meanwhile")


def _partition_arrays(partitions: Sequence[TopicPartition]) -> dict[str, list[Any]]:
    return {
        "topics": [p.topic for p in partitions],
        "topic_ids": [p.topic_id for p in partitions],
        "partitions": [p.partition for p in partitions],
    }


def _earliest_commit(rows: Iterable[StagedRow]) -> int | None:
    return min((row.first_commit_ms for row in rows if row.first_commit_ms is not None), default=None)


def _earliest_of(rows: Mapping[tuple[str, str], StagedRow], sources: frozenset[str]) -> int | None:
    return _earliest_commit(row for (source, _), row in rows.items() if source in sources)


def _message(row: Row) -> Message:
    _, topic, _, partition, offset, message_ms, key, value, headers, _ = row
    decoded = [(name, None if text is None else base64.b64decode(text)) for name, text in headers or ()]
    return Message(topic, partition, offset, message_ms, key, value, decoded)


def _digest_of(message: Message) -> dict[str, Any]:
    """What is kept of a message that may hold what must not rest here in plain: its bytes are still in Kafka."""
    digest = hashlib.sha256(message.value or b"").digest()
    return {"key": None, "value": None, "headers": None, "digest": digest}


def _per_origin(counts: Counter[tuple[int, str]]) -> Counter[int]:
    sums: Counter[int] = Counter()
    for (origin, _), count in counts.items():
        sums[origin] += count
    return sums
