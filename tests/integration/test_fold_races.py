"""Folds that run at once: every row finds its order although neither transaction sees the other's rows at first."""

from __future__ import annotations

import itertools
import random
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import psycopg
import pytest
from fixtures.postgres import Database
from ingest_store_suite import NOW_MS, STRUCTURE, Events
from test_postgres_ingest_store import POLICY

from daemon.ingest.change import Change
from daemon.ingest.fold import Stager
from daemon.state import ingest_store
from daemon.state.ingest_store import Batch, Move, PostgresIngestStore, TopicPartition

pytestmark = pytest.mark.postgres

TIMEOUT = 30


class MeetingStore(PostgresIngestStore):
    """Waits for the others once its rows are upserted; with `late`, also before it marks orders."""

    def __init__(self, database: Database, meet: threading.Barrier, late: threading.Barrier | None) -> None:
        super().__init__(database.settings, POLICY)
        self._meet, self._late = meet, late

    def _upsert(self, *arguments: object, **how: bool) -> list[object]:
        applied = super()._upsert(*arguments, **how)
        self._meet.wait(TIMEOUT)
        return applied

    def _mark(self, *arguments: object) -> None:
        if self._late is not None:
            self._late.wait(TIMEOUT)
        super()._mark(*arguments)


@pytest.fixture
def look(database: Database) -> Iterator[psycopg.Connection]:
    """A connection in our schema, with one destination registered."""
    with closing(database.connect()) as connection:
        connection.execute("set search_path to order_sync")
        connection.execute("insert into destination (name, base_url, client_id) values ('a', 'http://x', 'c')")
        yield connection


def tree(events: Events, number: int) -> list[Change]:
    """A refund of order `number`, a line of it, a note on that."""
    line = events.change("refund_lines", f"l{number}", refund_id=f"r{number}")
    line.columns["kind"] = "line"
    return [
        events.change("refunds", f"r{number}", order_id=number),
        line,
        events.change("notes", f"n{number}", refund_line_id=f"l{number}"),
    ]


def race(database: Database, shares: list[list[Change]], late: bool) -> None:
    """Fold each share in a transaction of its own, all of them open at once."""
    meet = threading.Barrier(len(shares))
    late_meet = threading.Barrier(len(shares)) if late else None

    def fold(number: int, share: list[Change]) -> None:
        with closing(MeetingStore(database, meet, late_meet)) as store:
            store.open(STRUCTURE, ["a"])
            partition = TopicPartition(f"racer {number}", "", 0)
            [at] = store.positions([partition]).values()
            rounds = Stager(STRUCTURE).stage([(at.origin, change) for change in share], NOW_MS)
            store.fold(Batch(rounds, [], [Move(at.origin, at.next_offset, at.next_offset + 1)]))

    with ThreadPoolExecutor(len(shares)) as pool:
        for future in [pool.submit(fold, number, share) for number, share in enumerate(shares)]:
            future.result(TIMEOUT)


def splits(count: int) -> list[tuple[int, ...]]:
    """All ways to hand three rows to `count` folds so that each gets one."""
    return [who for who in itertools.product(range(count), repeat=3) if len(set(who)) == count]


@pytest.mark.parametrize("count", [2, 3])
def test_roots_and_marks_are_right_however_the_rows_are_split(
    database: Database, look: psycopg.Connection, count: int
) -> None:
    """A three-step tree split over concurrent folds in every way: each row knows its order, each order is due."""
    events = Events()
    for number, who in enumerate(splits(count)):
        rows = tree(events, number)
        race(
            database, [[row for row, folder in zip(rows, who, strict=True) if folder == n] for n in range(count)], False
        )
        found = look.execute("select key, root from source_row where key = any(%s)", [[r.key for r in rows]]).fetchall()
        assert dict(found) == dict.fromkeys((r.key for r in rows), str(number)), who
        due = look.execute("select revision > settled_revision from order_sync where order_key = %s", [str(number)])
        assert due.fetchall() == [(True,)], who


RACES = 500


class Racer(PostgresIngestStore):
    """A store that is kept for many races; each race gives it the point at which it meets the others."""

    meet: threading.Barrier

    def _upsert(self, *arguments: object, **how: bool) -> list[object]:
        applied = super()._upsert(*arguments, **how)
        self.meet.wait(TIMEOUT)
        return applied


def test_five_hundred_races_leave_no_wrong_root_and_no_order_that_is_not_due(
    database: Database, look: psycopg.Connection
) -> None:
    """Two to four folds at once over trees of three hops and look-ups of look-ups, in random shares."""
    lots, events = random.Random(500), Events()
    racers = [Racer(database.settings, POLICY) for _ in range(4)]
    for racer in racers:
        racer.open(STRUCTURE, ["a"])
    wrong: list[object] = []
    with ThreadPoolExecutor(4) as pool:
        for number in range(RACES):
            rows = tree(events, number)
            rows.append(events.change("orders", str(number), customer_id=number))
            rows.append(events.change("customers", str(number), country=f"c{number}"))
            rows.append(events.change("countries", f"c{number}", name="new"))
            lots.shuffle(rows)
            count = lots.randint(2, 4)
            shares = [rows[n::count] for n in range(count)]
            meet = threading.Barrier(count)
            futures = [
                pool.submit(fold_share, racer, meet, f"racer {n}", share)
                for n, (racer, share) in enumerate(zip(racers, shares, strict=False))
            ]
            for future in futures:
                future.result(TIMEOUT)
            wrong += misplaced(look, number)
            # A look-up of a look-up changes while a line of the order does.
            look.execute("update order_sync set settled_revision = revision")
            moved = events.change("refund_lines", f"l{number}", refund_id=f"r{number}", v=2)
            moved.columns["kind"] = "line"
            country = events.change("countries", f"c{number}", name="newer")
            meet = threading.Barrier(2)
            futures = [
                pool.submit(fold_share, racer, meet, f"racer {n}", [change])
                for n, (racer, change) in enumerate(zip(racers, [moved, country], strict=False))
            ]
            for future in futures:
                future.result(TIMEOUT)
            wrong += misplaced(look, number)
    for racer in racers:
        racer.close()
    assert wrong == []


def fold_share(store: Racer, meet: threading.Barrier, topic: str, share: list[Change]) -> None:
    """One transaction with all of a share, in one round."""
    store.meet = meet
    [at] = store.positions([TopicPartition(topic, "", 0)]).values()
    rounds = Stager(STRUCTURE).stage([(at.origin, change) for change in share], NOW_MS)
    store.fold(Batch(rounds, [], [Move(at.origin, at.next_offset, at.next_offset + 1)]))


def misplaced(look: psycopg.Connection, number: int) -> list[object]:
    """Rows of this order's tree with another root, and the order if it is not due."""
    keys = [f"r{number}", f"l{number}", f"n{number}"]
    roots = look.execute("select key, root from source_row where key = any(%s)", [keys]).fetchall()
    wrong: list[object] = [(key, root) for key, root in roots if root != str(number)]
    due = look.execute("select revision > settled_revision from order_sync where order_key = %s", [str(number)])
    return wrong + ([] if due.fetchall() == [(True,)] else [("not due", number)])


def test_a_changed_lookup_and_a_new_reference_at_once_leave_the_order_due(
    database: Database, look: psycopg.Connection
) -> None:
    """An order that starts to use a customer while that customer changes is due, whoever commits first."""
    events = Events()
    race(
        database,
        [[events.change("orders", "1", customer_id=9)], [events.change("customers", "9", country="DE")]],
        False,
    )
    assert look.execute("select revision > settled_revision from order_sync").fetchall() == [(True,)]


def test_without_the_mirror_lock_roots_would_be_wrong(
    database: Database, look: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lock is what the first test is about: take it away, and a row misses its parent for good."""
    monkeypatch.setattr(ingest_store, "_SQL", {**ingest_store._SQL, "lock_mirror": "select 1"})
    events = Events()
    refund, line, _ = tree(events, 1)
    race(database, [[refund], [line]], True)
    assert look.execute("select root from source_row where key = 'l1'").fetchall() == [(None,)]
