"""The recordings through decoder, stager and the real store: the mirror ends with what PostgreSQL held."""

from __future__ import annotations

import json
import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import Any

import corpora_loader
import psycopg
import pytest
from corpora_loader import Corpus, Table, pg_text
from fixtures.postgres import Database

from daemon.ingest.batch import DecodedBatch, PartitionState
from daemon.ingest.change import Message
from daemon.ingest.debezium import Decoder
from daemon.ingest.fold import Stager
from daemon.mapping.keys import row_key
from daemon.state.ingest_store import Batch, PostgresIngestStore, TopicPartition
from daemon.state.schedule import DebouncePolicy

pytestmark = pytest.mark.postgres

POLICY = DebouncePolicy(timedelta(0), timedelta(0))
TRUNCATED_CARTS = 17
EXACT = [name for name in corpora_loader.NAMES if name[0] in "abcfghix"]
INTERLEAVINGS = 20


@dataclass
class Mirror:
    """A fresh state that folds whatever order of messages it is given."""

    corpus: Corpus
    store: PostgresIngestStore
    connection: psycopg.Connection

    def fold(self, messages: Iterable[Message], seed: int) -> Counter[str]:
        """Fold in batches of random sizes; the durable counts afterwards."""
        self.connection.execute(
            "truncate source_row, kafka_position, origin, order_sync, rejected_message restart identity cascade"
        )
        lots, pending = random.Random(seed), list(messages)
        structure = corpora_loader.structure_for(self.corpus)
        decoder, stager = Decoder(structure), Stager(structure)
        ids = {(m.topic, m.partition): TopicPartition(m.topic, "id", m.partition) for m in pending}
        positions = self.store.positions(ids.values())
        states = {name: PartitionState(partition, positions[partition]) for name, partition in ids.items()}
        while pending:
            size = lots.randint(1, 900)
            batch = DecodedBatch(decoder, states)
            for message in pending[:size]:
                batch.add(message)
            del pending[:size]
            moves = batch.moves({})
            self.store.fold(Batch(stager.stage(batch.changes, 0), batch.rejects, moves))
            batch.commit(moves)
        row = self.connection.execute(
            "select sum(folded)::int, sum(stale)::int, sum(skipped)::int, sum(rejected)::int from kafka_position"
        ).fetchone()
        return Counter(dict(zip(("folded", "stale", "skipped", "rejected"), row, strict=True)))

    def rows(self, table: Table) -> dict[str, dict[str, str | None]]:
        """The live rows in PostgreSQL's words; a column that was never reported has its default."""
        found = self.connection.execute(
            "select r.key, r.columns::text, r.unknown from source_row r join source s on s.id = r.source"
            " where s.name = %s and not r.deleted",
            [table.name],
        ).fetchall()
        rows = {}
        for key, text, unknown in found:
            assert unknown is None, (table.name, key, unknown)
            columns: dict[str, Any] = json.loads(text, parse_float=Decimal)
            rows[key] = {name: pg_text(columns.get(name, table.defaults[name]), t) for name, t in table.types.items()}
        return rows

    def orders_of(self, source: str) -> dict[str, str | None]:
        """The order of every live row of a source."""
        return dict(
            self.connection.execute(
                "select r.key, r.root from source_row r join source s on s.id = r.source"
                " where s.name = %s and not r.deleted",
                [source],
            ).fetchall()
        )


@pytest.fixture(scope="module")
def state(postgres_server: Any, migrated_template: str) -> Iterator[Database]:
    """One migrated database for all recordings; `Mirror.fold` empties it."""
    database = Database("corpora_fold", postgres_server)
    postgres_server.create_database(database.name, migrated_template)
    yield database
    postgres_server.drop_database(database.name)


@pytest.fixture
def mirror(request: pytest.FixtureRequest, state: Database) -> Iterator[Mirror]:
    """The mirror for the recording named by the test's parameter."""
    corpus = corpora_loader.load(request.param)
    store = PostgresIngestStore(state.settings, POLICY)
    with state.connect() as connection:
        connection.execute("set search_path to order_sync")
        connection.execute(
            "insert into destination (name, base_url, client_id) values ('a', 'http://x', 'c') on conflict do nothing"
        )
        store.open(corpora_loader.structure_for(corpus), ["a"])
        yield Mirror(corpus, store, connection)
    store.close()


def truth(table: Table) -> dict[str, dict[str, str | None]]:
    """The table's rows by canonical key."""
    return {row_key([row[name] for name in table.pk]): dict(row) for row in table.rows}


def by_partition(messages: Iterable[Message]) -> list[list[Message]]:
    """The messages of each partition, in offset order."""
    parts: dict[tuple[str, int], list[Message]] = defaultdict(list)
    for message in messages:
        parts[message.topic, message.partition].append(message)
    return [parts[name] for name in sorted(parts)]


def interleaved(messages: Iterable[Message], seed: int) -> list[Message]:
    """A random order of all messages that keeps the order within each partition."""
    lots, parts = random.Random(seed), [list(reversed(part)) for part in by_partition(messages)]
    order = [index for index, part in enumerate(parts) for _ in part]
    lots.shuffle(order)
    return [parts[index].pop() for index in order]


def orders_to_try(corpus: Corpus) -> Iterator[tuple[str, list[Message]]]:
    """File order, partition by partition, and random interleavings."""
    messages = corpus.of_tables()
    yield "file order", messages
    yield "partition by partition", [message for part in by_partition(messages) for message in part]
    for seed in range(INTERLEAVINGS):
        yield f"interleaving {seed}", interleaved(messages, seed)


def check_roots(mirror: Mirror) -> None:
    """Every row of an order knows its order, however many steps away."""
    refunds = {key: row["order_id"] for key, row in truth(mirror.corpus.tables["refunds"]).items()}
    for source in ("order_lines", "refunds"):
        want = {key: row["order_id"] for key, row in truth(mirror.corpus.tables[source]).items()}
        got = mirror.orders_of(source)
        assert {key: got[key] for key in want} == want, source
    want = {key: refunds[row["refund_id"]] for key, row in truth(mirror.corpus.tables["refund_lines"]).items()}
    got = mirror.orders_of("refund_lines")
    assert {key: got[key] for key in want} == want


@pytest.mark.parametrize("mirror", EXACT, indirect=True)
def test_a_recording_folds_exactly_in_every_order_tried(mirror: Mirror) -> None:
    """All columns of all rows are exact, roots too, and the counts add up; but for carts that TRUNCATE left behind."""
    for name, messages in orders_to_try(mirror.corpus):
        counts = mirror.fold(messages, seed=len(name))
        assert counts.total() == len(messages), name
        assert counts["rejected"] == 0, name
        for table in mirror.corpus.tables.values():
            got, want = mirror.rows(table), truth(table)
            assert {key: got.get(key) for key in want} == want, (name, table.name)
            assert len(got.keys() - want.keys()) == (TRUNCATED_CARTS if table.name == "carts" else 0), (
                name,
                table.name,
            )
        check_roots(mirror)


@pytest.mark.parametrize("mirror", ["e_connect_double"], indirect=True)
def test_milliseconds_and_doubles_lose_only_what_the_connector_dropped(mirror: Mirror) -> None:
    """Recording e is exact up to the millisecond in every order tried."""
    for name, messages in orders_to_try(mirror.corpus):
        mirror.fold(messages, seed=len(name))
        for table in mirror.corpus.tables.values():
            got = mirror.rows(table)
            for key, row in truth(table).items():
                want = {column: _to_millis(value, table.types[column]) for column, value in row.items()}
                assert got[key] == want, (name, table.name)


def _to_millis(value: str | None, pg_type: str) -> str | None:
    if value is None or not pg_type.startswith("time") or not pg_type.endswith("without time zone") or "." not in value:
        return value
    whole, _, fraction = value.partition(".")
    return f"{whole}.{fraction[:3]}".rstrip("0").rstrip(".")


@pytest.mark.parametrize("mirror", ["j_lost_offsets"], indirect=True)
def test_lost_offsets_leave_exactly_the_listed_ghosts(mirror: Mirror) -> None:
    """Recording j equals the truth plus the rows whose deletes were never sent, in every order tried."""
    for name, messages in orders_to_try(mirror.corpus):
        mirror.fold(messages, seed=len(name))
        ghosts = {}
        for table in mirror.corpus.tables.values():
            got, want = mirror.rows(table), truth(table)
            assert {key: got.get(key) for key in want} == want, (name, table.name)
            if extra := got.keys() - want.keys():
                ghosts[table.name] = set(extra)
        assert ghosts == corpora_loader.ghosts(), name


@pytest.mark.parametrize("mirror", ["d_unwrap"], indirect=True)
def test_messages_that_cannot_be_decoded_are_all_kept(mirror: Mirror) -> None:
    """Flattened messages are rejects with their raw bytes, and the rows they are about are unknown, never null."""
    messages = mirror.corpus.of_tables()
    counts = mirror.fold(messages, seed=1)
    assert counts == Counter(rejected=len(messages))
    kept = mirror.connection.execute('select topic, partition, "offset", key, value from rejected_message').fetchall()
    assert sorted(kept) == sorted((m.topic, m.partition, m.offset, m.key, m.value) for m in messages)
    unknown = mirror.connection.execute("select distinct unknown from source_row").fetchall()
    assert unknown == [(["*"],)]
