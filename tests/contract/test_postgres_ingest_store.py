"""The ingest store on Postgres keeps the contract, on the newest and on an old server."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import timedelta

import pytest
from fixtures.postgres import Database
from ingest_state_suite import IngestStateSuite
from ingest_store_suite import (
    NOW_MS,
    STRUCTURE,
    Events,
    IngestStoreSuite,
    Rig,
    Seen,
)

from daemon.ingest.change import Kind, Message, Reject, RejectReason
from daemon.ingest.fold import Stager
from daemon.state.ingest_store import Batch, Move, PostgresIngestStore, TopicPartition
from daemon.state.schedule import DebouncePolicy, Lane

POLICY = DebouncePolicy(timedelta(seconds=10), timedelta(seconds=60))


class PostgresRig(Rig):
    def __init__(self, database: Database) -> None:
        super().__init__(PostgresIngestStore(database.settings, POLICY))
        self.look = database.connect()
        self.look.execute("set search_path to order_sync")
        self.look.execute("insert into destination (name, base_url, client_id) values ('a', 'http://x', 'c')")
        self.store.open(STRUCTURE, ["a"])

    def close(self) -> None:
        """Give the connections back."""
        self.store.close()
        self.look.close()

    def empty(self) -> None:
        """Nothing was ever folded, under `STRUCTURE`. Deleting a few rows is much faster than truncating."""
        tables = ("source_row", "order_sync", "kafka_position", "rejected_message", "origin")
        statements = [
            *(f"delete from {table}" for table in tables),
            "update source set generation = 0, carries = default",
            "delete from era where number > 0",
        ]
        self.look.execute("; ".join(statements))
        self.structure = STRUCTURE
        self.store.open(STRUCTURE, ["a"])

    def row(self, source: str, key: str) -> Seen | None:
        found = self.look.execute(
            "select r.columns, coalesce(r.unknown, '{}'), r.deleted, r.root, r.first_seen"
            " from source_row r join source s on s.id = r.source where s.name = %s and r.key = %s",
            [source, key],
        ).fetchone()
        return found and Seen(found[0], frozenset(found[1]), *found[2:])

    def revisions(self) -> dict[str, int]:
        return dict(self.look.execute("select order_key, revision from order_sync").fetchall())

    def settle(self) -> None:
        self.look.execute("update order_sync set settled_revision = revision")

    def lanes(self) -> dict[str, Lane]:
        return {key: Lane(lane) for key, lane in self.look.execute("select order_key, lane from order_sync").fetchall()}

    def reset(self, partition: TopicPartition, next_offset: int) -> None:
        values = {"topic": partition.topic, "id": partition.topic_id, "partition": partition.partition}
        self.look.execute(
            "insert into origin (topic, topic_id, partition) values (%(topic)s, %(id)s, %(partition)s)"
            " on conflict do nothing",
            values,
        )
        self.look.execute(
            "insert into kafka_position (origin, next_offset) select id, %(next)s from origin"
            " where (topic, topic_id, partition) = (%(topic)s, %(id)s, %(partition)s)"
            " on conflict (origin) do update set next_offset = excluded.next_offset, halted = null, target = null,"
            " target_until = null",
            {**values, "next": next_offset},
        )

    def raise_generation(self, source: str) -> None:
        self.look.execute("update source set generation = generation + 1 where name = %s", [source])


@pytest.fixture(scope="module")
def opened(module_database: Database) -> Iterator[PostgresRig]:
    """One store for all tests here."""
    with closing(PostgresRig(module_database)) as rig:
        yield rig


@pytest.mark.postgres
class TestPostgresIngestStore(IngestStateSuite, IngestStoreSuite):
    @pytest.fixture
    def rig(self, opened: PostgresRig) -> Rig:
        opened.empty()
        return opened

    def test_starting_again_uses_up_no_numbers(self, rig: PostgresRig) -> None:
        """Sources that have a number keep it, however often a process starts."""
        for _ in range(5):
            rig.store.open(STRUCTURE, ["a"])
        last = rig.look.execute("select last_value from source_id_seq").fetchone()
        assert last == (len(STRUCTURE.sources),)

    def test_rejects_are_kept_for_their_time_and_no_longer(self, rig: PostgresRig) -> None:
        """Old rejects go, resolved or not; young ones stay."""
        rig.look.execute(
            'insert into rejected_message (topic, topic_id, partition, "offset", reason, detail, rejected_at)'
            " select 't', '', 0, n, 'not_json', '', now() - make_interval(days => n) from generate_series(0, 9) n"
        )
        assert rig.store.purge_rejects(timedelta(days=5)) == 5
        left = rig.look.execute('select "offset" from rejected_message order by 1').fetchall()
        assert [offset for (offset,) in left] == [0, 1, 2, 3, 4]

    def test_rejects_of_hashed_sources_keep_a_digest(self, rig: PostgresRig, events: Events) -> None:
        """No bytes that may hold a plain address; a retry leaves them alone until the row is read again."""
        hashed = replace(STRUCTURE.sources["customers"], hashed={"email": "email"})
        rig.store.open(replace(STRUCTURE, sources={**STRUCTURE.sources, "customers": hashed}), ["a"])
        partition = TopicPartition("t.customers", "one", 0)
        [at] = rig.store.positions([partition]).values()
        message = Message("t.customers", 0, 5, NOW_MS, b'{"id":9}', b"jo@example.com", [("h", b"jo@example.com")])
        reject = Reject(RejectReason.BAD_VALUE, "total: ...", "customers", "9", message)
        rig.store.fold(Batch([], [("one", reject)], [Move(at.origin, at.next_offset, 6, rejected=1)]))
        kept = rig.look.execute("select key, value, headers, digest, row_key, reason from rejected_message").fetchall()
        digest = hashlib.sha256(b"jo@example.com").digest()
        assert kept == [(None, None, None, digest, "9", "bad_value")]

        def attempt(page: list) -> tuple:
            raise AssertionError(page)

        open_rejects = "select count(*) from rejected_message where resolved_at is null"
        assert rig.store.retry(0, None, 100, attempt)[0] == 0
        assert rig.look.execute(open_rejects).fetchone() == (1,)
        rig.fold(events.change("customers", "9", offset=6, email="x"))
        assert rig.store.retry(0, None, 100, attempt)[0] == 0
        assert rig.look.execute(open_rejects).fetchone() == (0,)

    def test_rejects_fold_after_all_where_they_stood(self, rig: PostgresRig, events: Events) -> None:
        """A retried reject heals its row; one that a later change overtook undoes nothing."""
        good = events.change("orders", "1", v="good")
        late = events.change("orders", "2", v="late")
        overtaking = events.change("orders", "2", v="newest")
        partition = TopicPartition("t.orders", "one", 0)
        [at] = rig.store.positions([partition]).values()
        rejects = [
            ("one", Reject(RejectReason.BAD_VALUE, "total: …", "orders", change.key, change.message))
            for change in (good, late)
        ]
        unknown = [
            events.change("orders", c.key, kind=Kind.UNKNOWN, offset=c.message.offset, position=None, committed_ms=None)
            for c in (good, late)
        ]
        rounds = Stager(STRUCTURE).stage([(at.origin, change) for change in [*unknown, overtaking]], NOW_MS)
        rig.store.fold(Batch(rounds, rejects, [Move(at.origin, at.next_offset, 3, rejected=2)]))
        assert [rig.row("orders", key).unknown for key in "12"] == [{"*"}, frozenset()]

        def attempt(page: list) -> tuple:
            by_offset = {good.message.offset: good, late.message.offset: late}
            changes = [(origin, by_offset[message.offset]) for _, origin, message in page]
            return Stager(STRUCTURE).stage(changes, NOW_MS), [number for number, _, _ in page], {}

        last, result = rig.store.retry(0, None, 100, attempt)
        assert last
        assert (result.folded.total(), result.stale.total()) == (1, 1)
        assert [rig.row("orders", key).columns for key in "12"] == [{"v": "good"}, {"v": "newest"}]
        assert rig.store.retry(0, None, 100, attempt)[0] == 0
