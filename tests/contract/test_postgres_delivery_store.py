"""The delivery store on Postgres keeps the contract, and its claim reads due orders alone."""

from __future__ import annotations

import asyncio
import json
import math
import zlib
from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest
from delivery_store_suite import URL, VERSION, DeliveryStoreSuite, Play, Scenario, World
from fixtures.postgres import Database

from daemon.mapping.rows import StoredRow
from daemon.settings import Postgres
from daemon.state import steer
from daemon.state.database import async_pool
from daemon.state.delivery_records import Fate, Hold, Placed
from daemon.state.delivery_store import PostgresDeliveryStore
from daemon.state.era import Server, beginning, carried_out
from daemon.state.erase import SQL as ERASE_SQL
from daemon.state.queries import queries

MARK = """
insert into order_sync as o (destination, order_key, lane, first_change, last_change, first_commit, due_at, owed_era)
values (%(destination)s, %(key)s, %(lane)s, now(), now(), now(), now() + make_interval(secs => %(due_in)s),
        (select max(number) - count(*) filter (where replayed_at is null) from era))
on conflict (destination, order_key) do update set revision = o.revision + 1, due_at = excluded.due_at,
    owed_era = case when o.revision > o.settled_revision
                    then least(o.owed_era, excluded.owed_era) else excluded.owed_era end,
    lane = case when o.revision > o.settled_revision then least(o.lane, excluded.lane) else excluded.lane end,
    first_change = coalesce(o.first_change, now()), first_commit = coalesce(o.first_commit, now()), last_change = now()
"""

LOOK = """
select revision, settled_revision, request_id, digest, ever_attempted, first_change is not null as first_change,
       not_before > clock_timestamp() as held, hold, parked_revision, body_bytes, zeroed,
       extract(epoch from placed_at)::float8 as placed_at, quarantine_revision, attempts, send_alone, voided,
       vendor_order_id
from order_sync where destination = %s and order_key = %s
"""


class PostgresWorld(World):
    def __init__(self, connection: psycopg.Connection, settings: Postgres) -> None:
        self.connection = connection
        self.settings = settings
        connection.execute("set search_path to order_sync")
        for source in ("orders", "lines", "customers", "tags"):
            connection.execute("insert into source (name) values (%s)", [source])

    def touch(self, key: str, *, lane: int = 0, due_in: float = -1.0) -> None:
        self.connection.execute(MARK, {"destination": self.destination, "key": key, "lane": lane, "due_in": due_in})

    def put_row(self, row: StoredRow) -> None:
        self.connection.execute(
            'insert into source_row (source, key, root, parent, columns, unknown, deleted, origin, "offset")'
            " select id, %s, %s, %s, %s::jsonb, %s, %s, 1, 1 from source where name = %s"
            " on conflict (source, key) do update set columns = excluded.columns, deleted = excluded.deleted",
            [
                row.key,
                row.root,
                row.parent,
                json.dumps(dict(row.columns)),
                sorted(row.unknown) or None,
                row.deleted,
                row.source,
            ],
        )

    def pause(self) -> None:
        assert steer.pause(self.settings, ["d"], "alice") == ["d"]

    def resume(self) -> None:
        assert steer.resume(self.settings, ["d"], "alice") == ["d"]

    def ask(self, placed: Placed | None) -> None:
        if placed is None:
            assert steer.stop_backfill(self.settings, ["d"], "alice") == ["d"]
        else:
            since, until = (
                None if math.isinf(at) else datetime.fromtimestamp(at, UTC) for at in (placed.since, placed.until)
            )
            assert steer.ask_backfill(self.settings, ["d"], since, until, "alice") == ["d"]

    def decide_guarded(self, *keys: str, release: bool) -> None:
        decide = steer.release_guarded if release else steer.discard_guarded
        decide(self.settings, keys, ["d"], "alice")

    def erase(self, *keys: str, body: bytes, clear: str) -> None:
        with self.connection.transaction(), self.connection.cursor() as cursor:
            cursor.execute(ERASE_SQL["lock_records"], {"keys": list(keys)})
            packed = zlib.compress(body)
            known = [(key, [None if one is None else packed for one in old]) for _, key, *old in cursor.fetchall()]
            parameters = {
                "destinations": [self.destination] * len(known),
                "keys": [key for key, _ in known],
                "attempted": [bodies[0] for _, bodies in known],
                "accepted": [bodies[1] for _, bodies in known],
                "clear": [clear] * len(known),
            }
            cursor.execute(ERASE_SQL["erase_records"], parameters)

    def gate(self, *, closed: bool) -> None:
        self.connection.execute(
            "insert into origin (topic, topic_id, partition) values ('t', '', 0) on conflict do nothing"
        )
        self.connection.execute(
            "insert into kafka_position (origin, next_offset, target_until) select id, 0, %s from origin"
            " on conflict (origin) do update set target_until = excluded.target_until",
            ["infinity" if closed else None],
        )

    def begin_era(self) -> None:
        with self.connection.transaction(), self.connection.cursor() as cursor:
            carried_out(cursor, beginning("a test", Server()))

    def note_targets(self) -> None:
        self.connection.execute("update era set targets_at = now() where targets_at is null")

    def end_replay(self) -> None:
        self.connection.execute("update era set replayed_at = now() where replayed_at is null")

    def forget_renewals(self) -> None:
        self.connection.execute("update lease set renewals = 0")

    def put_in_force(self, version: str) -> None:
        self.connection.execute("update mapping_in_force set version = %s", [version])

    def reconcile(self, missing: int, extra: int, different: int) -> None:
        self.connection.execute(
            "insert into reconciliation (destination, first_day, last_day, compared, missing, extra, different,"
            " unfinished, silent_days, marked) values (%s, now(), now(), 9, %s, %s, %s, 0, 0, 0)",
            [self.destination, missing, extra, different],
        )

    def look(self, key: str) -> dict[str, Any]:
        with self.connection.cursor(row_factory=psycopg.rows.dict_row) as cursor:
            found = cursor.execute(LOOK, [self.destination, key]).fetchone()
        assert found is not None
        return found


def play_on(database: Database, connection: psycopg.Connection) -> Play:
    """Runs a scenario over the store; `connection` looks and prepares."""

    def run(scenario: Scenario) -> None:
        async def whole() -> None:
            async with async_pool(database.settings) as pool:
                world = PostgresWorld(connection, database.settings)
                world.store = PostgresDeliveryStore(pool, database.settings)
                world.destination = await world.store.register("d", URL, "c")
                await scenario(world)

        asyncio.run(whole())

    return run


@pytest.mark.postgres
class TestPostgresDeliveryStore(DeliveryStoreSuite):
    @pytest.fixture
    def play(self, database: Database, connection: psycopg.Connection) -> Play:
        return play_on(database, connection)

    def test_commit_in_doubt_is_waited_for(self, play: Play, database: Database) -> None:
        """A request whose writer heard no more of its commit is settled once that commit is through, not passed by."""

        async def scenario(world: World) -> None:
            assert isinstance(world, PostgresWorld)
            lease = await world.lead()
            world.touch("1")
            [due] = await world.due()
            request = await world.store.next_request()
            values = {
                "request": request,
                "destination": world.destination,
                "epoch": lease.epoch,
                "lane": 0,
                "bytes": 4,
                "mapping_version": VERSION,
                "keys": ["1"],
                "revisions": [due.revision],
                "read_at": [due.read_at],
                "vendor_ids": ["V-1"],
                "bodies": [b""],
                "placed_at": [0.0],
                "body_bytes": [2],
                "clears": False,
                "zeros": [False],
                "zeroed": 0,
            }
            with database.connect() as writer:
                writer.execute("set search_path to order_sync")
                writer.execute("begin")
                for name in ("write_request", "put_in_flight"):
                    writer.execute(queries("delivery.sql")[name], values)
                settling = asyncio.create_task(world.end(lease, request, Fate.NOT_SENT, "1", attempted_before=False))
                await _until_waited_for(world.connection)
                assert not settling.done()
                writer.execute("commit")
            await settling
            record = world.look("1")
            assert (record["request_id"], record["ever_attempted"]) == (None, False)
            assert [one.key for one in await world.due()] == ["1"]

        play(scenario)

    def test_claim_reads_the_due_index_alone(self, play: Play) -> None:
        """Finding 1000 due orders among 25,000 clean and 25,000 parked ones touches its index and those alone."""

        async def scenario(world: World) -> None:
            assert isinstance(world, PostgresWorld)
            connection = world.connection
            connection.execute(
                "insert into order_sync (destination, order_key, lane, last_change, due_at, settled_revision,"
                " parked_revision, hold, placed_at) select %s, i::text, 0, now(), now() - interval '1 minute',"
                " case when i %% 51 <= 25 then 0 else 1 end, case when i %% 51 between 1 and 25 then 1 end,"
                " case when i %% 51 between 1 and 25 then 'backfill' end, to_timestamp(i)"
                " from generate_series(1, 51000) i",
                [world.destination],
            )
            connection.execute("analyze order_sync")
            parameters = {"destination": world.destination, "lane": 0, "busy": ["51", "102"], "limit": 1000}
            nodes = _plan(connection, "due", parameters)
            assert any(node.get("Index Name") == "order_sync_due" for node in nodes)
            scanned = {node["Relation Name"] for node in nodes if node["Node Type"] == "Seq Scan"}
            assert scanned <= {"kafka_position", "era"}  # a row per partition; a few
            orders = [node for node in nodes if node.get("Relation Name") == "order_sync"]
            assert sum(node.get("Rows Removed by Filter", 0) for node in orders) <= 2  # the busy ones
            assert len(await world.due(limit=1000)) == 1000

        play(scenario)

    def test_release_reads_one_page_of_the_parked_index(self, play: Play) -> None:
        """The oldest thousand among 50,000 parked orders are found without reading or sorting the others."""

        async def scenario(world: World) -> None:
            assert isinstance(world, PostgresWorld)
            connection = world.connection
            connection.execute(
                "insert into order_sync (destination, order_key, lane, last_change, due_at, parked_revision, hold,"
                " placed_at) select %s, i::text, 1, now(), now(), 1, 'backfill', to_timestamp(60000 - i)"
                " from generate_series(1, 50000) i",
                [world.destination],
            )
            connection.execute("analyze order_sync")
            page = {"destination": world.destination, "hold": "backfill", "since": 20000.0, "until": math.inf}
            nodes = _plan(connection, "release_parked", {**page, "limit": 1000})
            [scan] = [node for node in nodes if node.get("Index Name") == "order_sync_parked"]
            assert scan["Actual Rows"] <= 1001
            lease = await world.lead()
            keys = await world.store.release_parked(lease, Hold.BACKFILL, Placed(since=20000.0), 1000)
            assert keys == [str(number) for number in range(40000, 39000, -1)]

        play(scenario)

    def test_a_state_that_was_never_analyzed_is_not_joined_row_by_row(self, play: Play) -> None:
        """After a first snapshot the planner knows nothing of many orders. No statement may meet each of them for each
        order of its batch: that took seconds for a few thousand."""

        async def scenario(world: World) -> None:
            assert isinstance(world, PostgresWorld)
            connection, batch = world.connection, 300
            connection.execute(
                "insert into order_sync (destination, order_key, lane, last_change, due_at, quarantine_revision,"
                " parked_revision, hold, placed_at, accepted_at, request_id) select %s, i::text, 1, now(), now(),"
                " case when i <= 2000 then 1 end, case when i between 2001 and 3000 then 1 end,"
                " case when i between 2001 and 3000 then 'backfill' end, to_timestamp(i), now(),"
                " case when i > 5000 then 7 end from generate_series(1, 6000) i",
                [world.destination],
            )
            keys = [str(number) for number in range(3001, 3001 + batch)]
            connection.execute(
                "insert into delivery_request (id, destination, epoch, lane, orders, bytes, order_keys, revisions)"
                " overriding system value values (7, %s, 1, 1, 1, 1, '{}', '{}')",
                [world.destination],
            )
            removers = ("Filter", "Join Filter")
            known: dict[str, Any] = {
                name: [None] * batch for name in ("take_over", "reasons", "details", "quarantines")
            }
            known |= {name: [False] * batch for name in ("zeros", "attempted", "voids", "zeroed_before", "settles")}
            known |= {name: [0.0] * batch for name in ("read_at", "placed_at", "hold_secs", "recheck_secs")}
            known |= {"attempts": [False] * batch, "parked": [False] * batch, "holds": [None] * batch}
            known |= {"revisions": [1] * batch, "body_bytes": [1] * batch, "bodies": [b"x"] * batch}
            known |= {"fates": ["accepted"] * batch, "digests": [b"x"] * batch, "vendor_ids": [f"V-{k}" for k in keys]}
            known |= {"destination": world.destination, "request": 7, "mapping_version": VERSION, "limit": batch}
            known |= {"hold": "backfill", "since": 0.0, "until": 1e9, "forced": True, "after": "", "keys": keys}
            for statement, others in {
                "lock_outgoing": {},
                "put_in_flight": {"clears": False},
                "settle_orders": {
                    "keys": [str(number) for number in range(5001, 5001 + batch)],
                    "clears": [False] * batch,
                },
                "hold_inherited": {"hold_secs": 1.0},
                "judge_orders": {},
                "reopen": {"hold_secs": 1.0},
                "release_quarantines": {},
                "owe_page": {},
                "release_parked": {},
            }.items():
                nodes = _plan(connection, statement, known | others)
                met = max(
                    node["Actual Loops"]
                    * (node["Actual Rows"] + sum(node.get(f"Rows Removed by {by}", 0) for by in removers))
                    for node in nodes
                )
                assert met <= 10_000, (statement, met)
                assert any(node.get("Operation") == "Update" or node["Node Type"] == "LockRows" for node in nodes)

        play(scenario)


async def _until_waited_for(connection: psycopg.Connection) -> None:
    """Until some transaction waits for another one's end."""
    for _ in range(1000):
        row = connection.execute("select count(*) from pg_locks where not granted").fetchone()
        if row and row[0]:
            return
        await asyncio.sleep(0.01)
    raise AssertionError("nobody waits")


def _plan(connection: psycopg.Connection, statement: str, parameters: dict[str, Any]) -> list[dict[str, Any]]:
    """The nodes of the plan by which a statement was carried out; it changes nothing."""
    text = "explain (analyze, format json) " + queries("delivery.sql")[statement]
    with connection.transaction(force_rollback=True):
        found = connection.execute(text, parameters).fetchone()
    assert found is not None
    return _nodes(found[0][0]["Plan"])


def _nodes(plan: dict[str, Any]) -> list[dict[str, Any]]:
    return [plan, *(node for child in plan.get("Plans", []) for node in _nodes(child))]
