"""The state of a world on real Postgres, under the world's clock.

The statements are the daemon's own. Where they ask `clock_timestamp()` they get the world's time: every transaction
names `pg_catalog` last in its search path, behind a schema that has functions of that name. A store call takes no
virtual time and runs to its end before anything else does, so that a seed replays exactly; transactions that stand in
each other's way are the business of other tests.
"""

from __future__ import annotations

import asyncio
import json
import math
import os
import uuid
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from psycopg import sql
from psycopg.rows import dict_row

from daemon.demo.stack import PostgresAt, PostgresServer
from daemon.errors import OrderSyncError
from daemon.mapping.rows import StoredRow
from daemon.settings import Postgres
from daemon.state import database, steer
from daemon.state.delivery_records import DeliveryState, Hold, Placed
from daemon.state.delivery_store import PostgresDeliveryStore
from daemon.state.era import Server, beginning, carried_out
from daemon.state.memory_delivery import NEVER, OrderRecord
from daemon.state.migrate import migrate
from daemon.state.queries import queries
from daemon.state.schedule import Lane
from simulation.climate import Climate
from simulation.clockwork import ProcessLoop
from simulation.store import CLIENT_ID, EPOCH, URL, SeenStore

if TYPE_CHECKING:
    from simulation.process import Process

CLOCKS = """
create function order_sync.clock_timestamp() returns timestamptz language sql stable
    return pg_catalog.to_timestamp(pg_catalog.current_setting('world.now')::float8);
create function order_sync.statement_timestamp() returns timestamptz language sql stable
    return pg_catalog.to_timestamp(pg_catalog.current_setting('world.now')::float8);
"""

TABLES = ("source_row", "order_sync", "delivery_request", "lease", "era")
"""What goes back with a state: all that the processes and the shop write."""

ROW = """
insert into source_row (source, key, root, columns, deleted, origin, "offset")
select id, %s, %s, %s::jsonb, %s, 1, 1 from source where name = %s
on conflict (source, key) do update set root = excluded.root, columns = excluded.columns, deleted = excluded.deleted
"""

RECORDS = """
select order_key, lane, revision, settled_revision, request_id, attempts, quarantine_revision, quarantine_reason,
       mapping_version, hold, last_attempted, last_accepted, parked_revision, zeroed,
       extract(epoch from placed_at)::float8 as placed_at
from order_sync where %(keys)s::text[] is null or order_key = any(%(keys)s::text[])
"""


@contextmanager
def served() -> Iterator[PostgresAt]:
    """The server of ORDER_SYNC_TEST_DSN, else the wheel's."""
    if given := os.environ.get("ORDER_SYNC_TEST_DSN"):
        yield PostgresAt(given)
    else:
        with PostgresServer() as server:
            yield server


@contextmanager
def template(server: PostgresAt) -> Iterator[str]:
    """A migrated database with the world's clocks, to clone."""
    name = f"simulation_{uuid.uuid4().hex[:12]}"
    server.create_database(name)
    try:
        migrate(Postgres(dsn=server.dsn(name)))
        with server.connect(name) as connection:
            connection.execute(CLOCKS)
            for source in ("orders", "order_lines", "customers"):
                connection.execute("insert into order_sync.source (name) values (%s)", [source])
        yield name
    finally:
        server.drop_database(name)


class _Pool:
    """The one connection of a process: it asks for one thing at a time."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._lock: asyncio.Lock | None = None
        self._connection: psycopg.AsyncConnection[Any] | None = None

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
        self._lock = self._lock or asyncio.Lock()
        async with self._lock:
            if self._connection is None or self._connection.closed:
                self._connection = await psycopg.AsyncConnection.connect(
                    self._dsn, autocommit=True, prepare_threshold=None
                )
            yield self._connection

    def get_stats(self) -> dict[str, int]:
        """As the real one's: the daemon asks a new connection who the server is."""
        return {"connections_num": int(self._connection is not None)}

    def cut(self) -> None:
        """As the kernel does when the process is gone."""
        if self._connection is not None:
            self._connection.pgconn.finish()


class PostgresState:
    """A state in a database of its own, cloned from `template`. Close it."""

    def __init__(self, climate: Climate, now: Callable[[], float], server: PostgresAt, template: str) -> None:
        self._policy = climate.debounce
        self._now = now
        self._server = server
        self._name = f"simulation_{uuid.uuid4().hex[:12]}"
        server.create_database(self._name, template)
        self._settings = Postgres(dsn=server.dsn(self._name))
        self._patch = pytest.MonkeyPatch()
        self._real_begin = database._begin
        self._patch.setattr(database, "_begin", self._begin)
        self._ingest = database.connect(self._settings)
        self._pools: dict[Process, _Pool] = {}
        self._own = _Pool(database.conninfo(self._settings))
        self._loop = ProcessLoop(now)  # type: ignore[abstract] # of a loop what is used
        store = self._store(self._own)
        self._loop.complete(store.register("d", URL, CLIENT_ID))

    def close(self) -> None:
        """Give everything back."""
        for pool in (self._own, *self._pools.values()):
            pool.cut()
        self._ingest.close()
        self._patch.undo()
        self._server.drop_database(self._name)

    def _begin(self, settings: Postgres) -> sql.Composed:
        return sql.SQL("{}; set local search_path to {}, pg_catalog; set local world.now to {}").format(
            self._real_begin(settings), sql.Identifier(settings.schema_name), sql.Literal(repr(EPOCH + self._now()))
        )

    def _store(self, pool: _Pool) -> PostgresDeliveryStore:
        return PostgresDeliveryStore(pool, self._settings)  # type: ignore[arg-type]

    def open(self, process: Process) -> DeliveryState:
        pool = self._pools[process] = _Pool(database.conninfo(self._settings))
        return self._store(pool)

    def closed(self, process: Process) -> None:
        self._pools.pop(process).cut()

    def finish(self, process: Process, name: str, arguments: tuple[Any, ...]) -> None:
        seen = SeenStore(self._store(self._own), process)
        with suppress(OrderSyncError):
            self._loop.complete(getattr(seen, name)(*arguments))

    def put_row(self, row: StoredRow) -> None:
        values = [row.key, row.root, json.dumps(dict(row.columns)), row.deleted, row.source]
        with database.transaction(self._ingest, self._settings) as cursor:
            cursor.execute(ROW, values)

    def touch(self, key: str, lane: Lane) -> None:
        with database.transaction(self._ingest, self._settings) as cursor:
            cursor.execute(
                queries("ingest.sql")["mark_orders"],
                {
                    "order_key": [key],
                    "lane": [int(lane)],
                    "committed": [None],
                    "destinations": [1],
                    "quiet": self._policy.quiet,
                    "max_wait": self._policy.max_wait,
                },
            )

    def orders(self, keys: Collection[str] | None = None) -> Mapping[str, OrderRecord]:
        with self._ingest.cursor(row_factory=dict_row) as cursor:
            cursor.execute("set search_path to order_sync")
            found = cursor.execute(RECORDS, {"keys": None if keys is None else list(keys)}).fetchall()
        return {
            row["order_key"]: OrderRecord(
                row["order_key"],
                row["lane"],
                NEVER,
                revision=row["revision"],
                settled_revision=row["settled_revision"],
                request=row["request_id"],
                attempts=row["attempts"],
                quarantine_revision=row["quarantine_revision"],
                quarantine_reason=row["quarantine_reason"],
                mapping_version=row["mapping_version"],
                hold=row["hold"] and Hold(row["hold"]),
                last_attempted=row["last_attempted"],
                last_accepted=row["last_accepted"],
                parked_revision=row["parked_revision"],
                placed_at=row["placed_at"],
                zeroed=row["zeroed"],
            )
            for row in found
        }

    def halted(self) -> str | None:
        reason: str | None = self._one("select halted_reason from destination")
        return reason

    def gate(self, *, closed: bool) -> None:
        self._one("insert into origin (topic, topic_id, partition) values ('t', '', 0) on conflict do nothing")
        self._one(
            "insert into kafka_position (origin, next_offset, target_until) select id, 0, %s from origin"
            " on conflict (origin) do update set target_until = excluded.target_until",
            "infinity" if closed else None,
        )

    def pause(self, *, paused: bool) -> None:
        change = steer.pause if paused else steer.resume
        change(self._settings, ["d"], "operator")

    def ask(self, placed: Placed | None) -> None:
        if placed is None:
            steer.stop_backfill(self._settings, ["d"], "operator")
        else:
            since, until = (
                None if math.isinf(at) else datetime.fromtimestamp(at, UTC) for at in (placed.since, placed.until)
            )
            steer.ask_backfill(self._settings, ["d"], since, until, "operator")

    def decide_guarded(self, keys: Collection[str], *, release: bool) -> None:
        decide = steer.release_guarded if release else steer.discard_guarded
        decide(self._settings, list(keys), ["d"], "operator")

    def put_in_force(self, version: str) -> None:
        self._one("update mapping_in_force set version = %s", version)

    def copied(self) -> Callable[[], None]:
        self._one("drop schema if exists copy cascade")
        self._one("create schema copy")
        written = {}
        for table in TABLES:
            self._one(f"create table copy.{table} as table {table}")
            written[table] = self._one(
                "select string_agg(quote_ident(attname), ', ') from pg_attribute"
                " where attrelid = %s::regclass and attnum > 0 and not attisdropped and attgenerated = ''",
                table,
            )
        last = self._one("select last_value from delivery_request_id_seq")

        def put_back() -> None:
            self._one(f"truncate {', '.join(TABLES)}")
            for table, columns in written.items():
                self._one(f"insert into {table} ({columns}) overriding system value select {columns} from copy.{table}")
            self._one("select setval('delivery_request_id_seq', %s)", last)

        return put_back

    def begin_era(self) -> None:
        with database.transaction(self._ingest, self._settings) as cursor:
            carried_out(cursor, beginning("a copy was put back", Server()))

    def end_replay(self) -> None:
        self._one(
            "update era set targets_at = clock_timestamp(), replayed_at = clock_timestamp() where replayed_at is null"
        )

    def _one(self, statement: str, *values: Any) -> Any:
        self._ingest.execute("set search_path to order_sync")
        cursor = self._ingest.execute(statement, values)
        row = cursor.fetchone() if cursor.description else None
        return row and row[0]
