"""Scale: what changes as the state grows, from orders made by `generate_series`; what churn leaves behind.

Found for each size: bytes in Postgres for each order, how long it takes to find 1000 due orders and by which plan, how
fast changes of recent orders are folded. The plan must use the index that only owed orders enter.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

import orjson
import psycopg
from line import FIRST_LSN, POLICY, live
from rig import Figure, Size, looking, state
from workload import LINES, Named, envelope, order_rows, shop_mapping

from daemon.app import calm_collector
from daemon.demo.stack import PostgresServer
from daemon.ingest.batch import DecodedBatch, PartitionState
from daemon.ingest.change import Message
from daemon.ingest.debezium import Decoder
from daemon.ingest.fold import Stager
from daemon.settings import Postgres
from daemon.state.ingest_store import Batch, PostgresIngestStore, TopicPartition
from daemon.state.queries import queries

DUE = 1000
CLAIMS = 25
CLAIM_MS = 50
RECENT = 5000
CHANGES = 20_000
SHARE = 0.8
GROWTH = 1000
"""What one version of a row and one of its order's record take: no change may leave more behind."""
HELD_NOTE = "nothing can be taken away that the old snapshot may still ask for"
SERVER = {"shared_buffers": "512MB", "max_wal_size": "4GB", "checkpoint_timeout": "30min"}


def measure(size: Size) -> list[Figure]:
    """Figures for each size of the state, and for churn at the smallest."""
    calm_collector()
    figures: list[Figure] = []
    first: list[float] = []
    with PostgresServer(durable=True, options=SERVER) as server:
        for orders in size.state:
            with state(server) as postgres, looking(postgres) as connection:
                folder = Folder(postgres)
                fill(connection, orders)
                figures.append(_bytes(connection, orders))
                figures += _claims(connection, orders)
                folder.rate(orders, size.rounds)  # what is worked on is in memory then, as in a state that is in use
                rates = [folder.rate(orders, number) for number in range(size.rounds)]
                first = first or rates
                figure = Figure(
                    f"scale fold, {orders:,} orders", "messages/s", rates, f"{size.state[0]:,} orders", first
                )
                figure.wanted, figure.holds = f">= {SHARE:.0%} of it", (figure.ratio or 0) >= SHARE
                figures.append(figure)
                if orders == size.state[0]:
                    figures += _churn(postgres, connection, folder, orders)
                folder.close()
    return figures


def fill(connection: psycopg.Connection[Any], orders: int) -> None:
    """Orders with three lines each, all of them settled, as a fold and a delivery leave them."""
    rows = list(order_rows(0))
    texts = [orjson.dumps(row).decode() for _, _, row in rows[: 1 + LINES]]
    named = dict(connection.execute("select name, id from source").fetchall())
    connection.execute("set synchronous_commit to off")
    connection.execute("insert into lineage (identity) values ('bench') on conflict do nothing")
    key = "lpad(to_hex(n), 32, '0')::uuid::text"
    stored = 'source, key, root, lineage, origin, "offset", position, committed, first_seen, refs, columns'
    connection.execute(
        f"insert into source_row ({stored}) select %s, {key}, {key}, 1, 0, n, array[n], n, n,"
        f" array[hashint8extended(n %% 5000, 1), hashint8extended(n %% 9000, 2)],"
        f" %s::jsonb || jsonb_build_object('id', {key}, 'number', 'D-' || n) from generate_series(0, %s - 1) n",
        [named["orders"], texts[0], orders],
    )
    for place in range(LINES):
        connection.execute(
            f"insert into source_row ({stored}) select %s, line::text, {key}, 1, 0, n, array[n], n, n,"
            f" array[hashint8extended(line %% 300, 3)], %s::jsonb || jsonb_build_object('id', line, 'order_id', {key})"
            f" from (select n, n * {LINES} + {place} as line from generate_series(0, %s - 1) n) l",
            [named["order_lines"], texts[1 + place], orders],
        )
    connection.execute(
        "insert into order_sync (destination, lane, revision, settled_revision, last_change, due_at, order_key,"
        " vendor_order_id, digest, mapping_version, ever_attempted, accepted_at, last_attempted, last_accepted)"
        f" select d.id, 0, 3, 3, now(), now(), {key}, 'D-' || n, sha256(n::text::bytea), 'bench', true, now(),"
        " decode(repeat(md5(n::text), 12), 'hex'), decode(repeat(md5(n::text), 12), 'hex')"
        " from destination d, generate_series(0, %s - 1) n",
        [orders],
    )
    connection.execute("vacuum (analyze) source_row")
    connection.execute("vacuum (analyze) order_sync")


def make_due(connection: psycopg.Connection[Any], orders: int, count: int) -> None:
    """So many orders, spread over all of them, are owed and due."""
    connection.execute(
        "update order_sync set revision = revision + 1, first_change = now(), due_at = now() - interval '1 second'"
        " where order_key in (select lpad(to_hex(n), 32, '0')::uuid::text"
        " from generate_series(0, %s - 1, greatest(1, %s / %s)) n limit %s)",
        [orders, orders, count, count],
    )


def _bytes(connection: psycopg.Connection[Any], orders: int) -> Figure:
    sizes = dict(
        connection.execute(
            "select c, pg_total_relation_size(c) from unnest(array['source_row', 'order_sync']) c"
        ).fetchall()
    )
    note = ", ".join(f"{name} {size / orders:,.0f}" for name, size in sizes.items())
    return Figure(f"scale size, {orders:,} orders", "bytes/order", [sum(sizes.values()) / orders], note=note)


def _claims(connection: psycopg.Connection[Any], orders: int) -> list[Figure]:
    make_due(connection, orders, DUE)
    due = queries("delivery.sql")["due"]
    found = connection.execute("select id from destination").fetchone()
    parameters = {"destination": found and found[0], "lane": 0, "busy": [], "limit": DUE}
    times = []
    for _ in range(CLAIMS):
        started = time.perf_counter()
        connection.execute(due, parameters).fetchall()
        times.append((time.perf_counter() - started) * 1000)
    figure = Figure(f"scale claim, {orders:,} orders", f"ms for {DUE} due", times, wanted=f"< {CLAIM_MS} ms")
    figure.holds = figure.value < CLAIM_MS
    [[plan]] = connection.execute(f"explain (analyze, format json) {due}", parameters).fetchone() or [[]]
    scans = list(_scans(plan["Plan"]))
    touched = sum(rows for _, rows in scans)
    by = Figure(
        f"scale claim plan, {orders:,} orders", "order records read", [touched], wanted=f"<= {DUE}, by the index"
    )
    by.holds = touched <= DUE and {index for index, _ in scans} == {"order_sync_due"}
    by.note = ", ".join(f"{index or 'sequential scan'}: {rows:,.0f}" for index, rows in scans)
    connection.execute("update order_sync set settled_revision = revision where revision > settled_revision")
    return [figure, by]


def _scans(node: dict[str, Any]) -> Iterable[tuple[str | None, float]]:
    """(index, records read) of every scan of order_sync in a plan; no index: all records."""
    below = node.get("Plans", [])
    if node.get("Relation Name") == "order_sync":
        removed = node.get("Rows Removed by Filter", 0) + node.get("Rows Removed by Index Recheck", 0)
        by_bitmap = below[0].get("Index Name") if node["Node Type"] == "Bitmap Heap Scan" else None
        yield node.get("Index Name", by_bitmap), node["Actual Rows"] + removed
    for one in below:
        yield from _scans(one)


class Folder:
    """Folds changes of recent orders without a broker: what grows with the state is Postgres's work."""

    def __init__(self, postgres: Postgres) -> None:
        self._structure = shop_mapping().structure
        self._store = PostgresIngestStore(postgres, POLICY)
        self._store.open(self._structure, ["a"])
        named = [TopicPartition(source.topic, "bench", 0) for source in self._structure.sources.values()]
        found = self._store.positions(named)
        self._states = {(at.topic, 0): PartitionState(at, found[at]) for at in named}
        self._decoder, self._stager = Decoder(self._structure), Stager(self._structure)
        self._lsn = FIRST_LSN

    def rate(self, orders: int, number: int) -> float:
        """Messages a second of changes of the newest orders, and of new ones."""
        newest = max(0, orders - RECENT)
        rows: list[Named] = []
        for order in range(newest, newest + CHANGES // (1 + LINES)):
            rows += list(order_rows(order, status=f"paid{number}"))[: 1 + LINES]
        return len(rows) / self.fold(rows)

    def fold(self, rows: list[Named]) -> float:
        """Seconds for these rows, in batches of 5,000."""
        elapsed = 0.0
        for start in range(0, len(rows), 5000):
            work = DecodedBatch(self._decoder, self._states)
            for message in self._messages(rows[start : start + 5000]):
                work.add(message)
            moves = work.moves({})
            batch = Batch(self._stager.stage(work.changes, 0), work.rejects, moves)
            started = time.perf_counter()
            self._store.fold(batch)
            elapsed += time.perf_counter() - started
            work.commit(moves)
        return elapsed

    def close(self) -> None:
        """Give the connection back."""
        self._store.close()

    def _messages(self, rows: Iterable[Named]) -> Iterable[Message]:
        now_ms = int(time.time() * 1000)
        offsets = {name: max(0, state.position.next_offset) for name, state in self._states.items()}
        for source, _, row in rows:
            topic = self._structure.sources[source].topic
            self._lsn += 64
            key = orjson.dumps({"id": row["id"]})
            yield Message(topic, 0, offsets[topic, 0], now_ms, key, envelope(source, row, self._lsn, now_ms, "u"), None)
            offsets[topic, 0] += 1


def _churn(postgres: Postgres, connection: psycopg.Connection[Any], folder: Folder, orders: int) -> list[Figure]:
    """What is left of changes of a few hot orders: with nobody looking on, and while an old snapshot is held."""

    def grown() -> float:
        before = _heap(connection)
        folder.fold(list(live(min(orders, 10_000), CHANGES)))
        connection.execute("select pg_stat_force_next_flush()")
        return (_heap(connection) - before) / CHANGES

    free = [grown() for _ in range(3)]
    with looking(postgres) as old:
        old.execute("begin isolation level repeatable read")
        old.execute("select 1 from source_row limit 1")
        held = [grown() for _ in range(3)]
    note = f"{CHANGES} changes, half of them of a hundredth of the orders; bytes of tables and indexes"
    figures = [
        Figure("scale growth", "bytes/change", free, note=note),
        Figure("scale growth under a held snapshot", "bytes/change", held, note=HELD_NOTE),
    ]
    for figure in figures:
        figure.wanted = f"<= {GROWTH} bytes/change"
        figure.holds = max(figure.values) <= GROWTH
    return figures


def _heap(connection: psycopg.Connection[Any]) -> int:
    row = connection.execute(
        "select pg_total_relation_size('source_row') + pg_total_relation_size('order_sync')"
    ).fetchone()
    return int(row[0]) if row else 0
