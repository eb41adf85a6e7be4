"""Who sees that the server is another one, and that one of many who see it begins the new era; what the roles may."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import timedelta

import psycopg
import pytest
from fixtures.postgres import Database

from daemon.settings import Postgres
from daemon.state.database import async_pool
from daemon.state.delivery_store import PostgresDeliveryStore
from daemon.state.era import Era
from daemon.state.ingest_store import PostgresIngestStore
from daemon.state.migrate import migrate
from daemon.state.schedule import DebouncePolicy

pytestmark = pytest.mark.postgres

POLICY = DebouncePolicy(timedelta(0), timedelta(0))


@pytest.fixture
def look(database: Database) -> Iterator[psycopg.Connection]:
    """A look at the state."""
    with closing(_at_state(database)) as connection:
        yield connection


@pytest.fixture
def look_as_owner(database_as_role: Database) -> Iterator[psycopg.Connection]:
    """A look at the state that the daemon enters as the run-time role."""
    with closing(_at_state(database_as_role)) as connection:
        yield connection


def _at_state(database: Database) -> psycopg.Connection:
    connection = database.connect()
    connection.execute("set search_path to order_sync")
    return connection


def as_ingest(settings: Postgres) -> Era:
    """What an ingest process sees."""
    with closing(PostgresIngestStore(settings, POLICY)) as store:
        return store.era()


def as_delivery(settings: Postgres) -> Era:
    """What a delivery process sees."""

    async def seen() -> Era:
        async with async_pool(settings) as pool:
            return await PostgresDeliveryStore(pool, settings).era()

    return asyncio.run(seen())


def test_of_many_processes_that_meet_another_server_one_begins_the_era(
    database: Database, look: psycopg.Connection
) -> None:
    """Once, and every lease ends with it; who comes later finds it begun."""
    assert as_ingest(database.settings).number == 0
    [(system, timeline)] = look.execute("select system_identifier, timeline from era").fetchall()
    assert system
    assert len(timeline) == 8
    look.execute("insert into destination (name, base_url, client_id) values ('a', 'http://x', 'c')")
    look.execute(
        "insert into lease (destination, epoch, holder, expires_at)"
        " select id, 7, gen_random_uuid(), 'infinity' from destination"
    )
    look.execute("update era set system_identifier = '1'")
    with ThreadPoolExecutor(6) as pool:
        seen = [pool.submit(one, database.settings) for one in [as_ingest, as_delivery] * 3]
    assert {one.result().number for one in seen} == {1}
    assert sum(one.result().begun for one in seen) == 1
    [(cause, installations)] = look.execute(
        "select max(cause) filter (where number = 1), count(distinct installation) from era"
    ).fetchall()
    assert cause == f"the server is another one: system identifier {system}, it was 1"
    assert installations == 1
    assert look.execute("select epoch, holder, expires_at < now() from lease").fetchone() == (8, None, True)


def test_a_stand_by_that_took_over_writes_on_another_timeline(database: Database, look: psycopg.Connection) -> None:
    """Its last commits may be missing."""
    as_delivery(database.settings)
    look.execute("update era set timeline = '000000FF'")
    era = as_delivery(database.settings)
    assert (era.number, era.begun, era.targeted) == (1, True, False)
    assert "it was 000000FF" in era.cause


def test_a_server_that_keeps_to_itself_who_it_is_is_gone_without(
    database_as_role: Database, look_as_owner: psycopg.Connection
) -> None:
    """Managed servers refuse this to ordinary roles: Kafka alone tells then. The rest is told as before."""
    look, worker = look_as_owner, database_as_role.settings
    look.execute("revoke execute on function pg_control_system() from public")
    assert as_ingest(worker).number == 0
    assert as_delivery(worker).number == 0
    [(system, timeline)] = look.execute("select system_identifier, timeline from era").fetchall()
    assert system is None
    assert timeline is not None
    owner = Database(database_as_role.name, database_as_role.server).settings
    assert as_ingest(owner).number == 0  # who may ask notes it, which is no other server
    assert look.execute("select system_identifier from era").fetchone() != (None,)


def test_the_role_that_runs_makes_room_for_requests_and_drops_old_ones(
    database_as_role: Database, look_as_owner: psycopg.Connection
) -> None:
    """Without the right to create or drop anything: both are done by functions of the owner."""
    look, worker = look_as_owner, database_as_role.settings
    look.execute("alter sequence delivery_request_id_seq restart with 550000")

    async def scenario() -> None:
        async with async_pool(worker) as pool:
            store = PostgresDeliveryStore(pool, worker)
            destination = await store.register("a", "http://x", "c")
            request = await store.next_request()
            look.execute(
                "insert into delivery_request (id, destination, epoch, lane, orders, bytes, order_keys, revisions,"
                " settled_at, counts_until) overriding system value"
                " values (%s, %s, 1, 0, 1, 1, '{x}', '{1}', now(), now())",
                [request, destination],
            )
            assert (await store.let_go(86_400.0, 86_400.0)).request_partitions == 1

    before = partitions(look)
    asyncio.run(scenario())
    assert max(partitions(look)) >= 750_000
    assert before - partitions(look) == {100_000}  # the one that ids have passed by; one at a time


def test_functions_of_the_owner_look_for_names_in_our_schema_alone(
    database: Database, look: psycopg.Connection
) -> None:
    """Whoever calls them cannot put a table of another name before ours: not even a temporary one."""
    settings = look.execute(
        "select p.proname, p.prosecdef, p.proconfig from pg_proc p where p.pronamespace = 'order_sync'::regnamespace"
    ).fetchall()
    assert {name for name, definer, _ in settings if definer} == {"room_for_requests", "drop_old_requests"}
    assert all("search_path=order_sync, pg_temp" in config for _, _, config in settings)


def partitions(look: psycopg.Connection) -> set[int]:
    """Where the partitions of requests end."""
    return {upto for (upto,) in look.execute("select upto from request_partitions()").fetchall()}


def request(look: psycopg.Connection, number: int, **values: str) -> None:
    """A request of long ago, with some values in SQL."""
    row = {"settled_at": "now() - interval '40 days'", "counts_until": "now() - interval '40 days'"} | values
    look.execute(
        "insert into delivery_request (id, destination, epoch, lane, orders, bytes, order_keys, revisions,"
        f" {', '.join(row)}) overriding system value"
        f" select {number}, id, 1, 0, 1, 1, '{{x}}', '{{1}}', {', '.join(row.values())} from destination"
    )


@pytest.fixture
def requests(database: Database, look: psycopg.Connection) -> psycopg.Connection:
    """Requests in the first three partitions; the sequence is beyond them."""
    look.execute("insert into destination (name, base_url, client_id) values ('a', 'http://x', 'c')")
    look.execute("alter sequence delivery_request_id_seq restart with 400000")
    for number in (5, 99_999, 100_000, 200_000):
        request(look, number)
    return look


def drop(look: psycopg.Connection, days: int) -> int:
    """How many partitions a chore drops, asked until it drops none."""
    dropped = 0
    while (row := look.execute("select drop_old_requests(make_interval(days => %s))", [days]).fetchone()) and row[0]:
        dropped += row[0]
    return dropped


def test_partitions_whose_requests_are_all_old_are_dropped_oldest_first(requests: psycopg.Connection) -> None:
    """None of those to come, whose ids were not given out yet."""
    assert drop(requests, 60) == 0
    assert drop(requests, 30) == 4
    assert requests.execute("select count(*) from delivery_request").fetchone() == (0,)
    assert min(partitions(requests)) > 400_000


@pytest.mark.parametrize(
    "values",
    [
        {"settled_at": "null", "counts_until": "null"},
        {"counts_until": "now() + interval '1 minute'"},
        {"settled_at": "now() - interval '29 days'"},
    ],
    ids=["unsettled", "counts", "young"],
)
def test_a_partition_with_a_request_that_is_needed_stays(requests: psycopg.Connection, values: dict[str, str]) -> None:
    """Unsettled, counting against the budget, or younger than it is kept: with all that came after it."""
    request(requests, 100_001, **values)
    assert drop(requests, 30) == 1
    assert requests.execute("select min(id), count(*) from delivery_request").fetchone() == (100_000, 3)


def test_a_keep_time_below_a_day_is_refused(requests: psycopg.Connection) -> None:
    """The void guard and `status` look back for an hour; the function is for everybody who may use the schema."""
    with pytest.raises(psycopg.errors.RaiseException, match="one day"):
        requests.execute("select drop_old_requests('23 hours')")


def test_a_partition_in_use_is_left_for_the_next_time(requests: psycopg.Connection, database: Database) -> None:
    """A chore never keeps delivery waiting: it gives up after two seconds."""
    with closing(database.connect()) as other:
        other.execute("begin; lock table order_sync.delivery_request in row exclusive mode")
        with pytest.raises(psycopg.errors.LockNotAvailable):
            requests.execute("select drop_old_requests('30 days')")
        other.execute("commit")
    assert drop(requests, 30) == 4


def test_statements_by_id_touch_one_partition(requests: psycopg.Connection) -> None:
    """Settling looks into the partition of its request alone, however many there are."""
    plan = requests.execute(
        "explain (format json) update delivery_request set settled_at = now() where id = 100000 and settled_at is null"
    ).fetchone()
    assert plan is not None
    assert "delivery_request_1" in str(plan[0])
    assert "delivery_request_first" not in str(plan[0])


def test_a_table_with_requests_becomes_the_first_partition(
    empty_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its rows, what is open among them and the numbering go on as they were."""
    from daemon.state import migrate as module

    known = module.known_migrations()
    monkeypatch.setattr(module, "known_migrations", lambda: {n: text for n, text in known.items() if n < 4})
    migrate(empty_database.settings)
    with closing(empty_database.connect()) as look:
        look.execute("set search_path to order_sync")
        look.execute("insert into destination (name, base_url, client_id) values ('a', 'http://x', 'c')")
        look.execute(
            "insert into delivery_request (destination, epoch, lane, orders, bytes, order_keys, revisions)"
            " select d.id, 1, 0, 1, 7, array['o' || n], '{1}' from destination d, generate_series(1, 150000) n"
        )
        look.execute("update delivery_request set settled_at = now(), counts_until = now() where id < 150000")
        monkeypatch.undo()
        assert migrate(empty_database.settings) == [n for n in known if n >= 4]
        assert look.execute(
            "select count(*), count(*) filter (where settled_at is null) from delivery_request"
        ).fetchone() == (
            150_000,
            1,
        )
        assert look.execute("select id from delivery_request where order_keys @> '{o77}'").fetchone() == (77,)
        assert look.execute("select nextval('delivery_request_id_seq')").fetchone() == (150_001,)
        assert min(partitions(look)) == 200_000
        for index in ("pkey", "open", "ledger", "orders"):
            # Taken over, not built anew.
            assert look.execute(f"select to_regclass('delivery_request_first_{index}') is not null").fetchone() == (
                True,
            )
        count = "select count(*) from pg_indexes where tablename = 'delivery_request_first'"
        assert look.execute(count).fetchone() == (4,)


def test_old_actions_go_by_the_page(database: Database, look: psycopg.Connection) -> None:
    """Operators' actions are few: they are deleted, not dropped."""
    look.execute(
        "insert into operator_action (at, who, command, arguments, affected)"
        " select now() - make_interval(days => n), 'me', 'pause', '{}', 1 from generate_series(1, 1500) n"
    )

    async def scenario() -> list[int]:
        async with async_pool(database.settings) as pool:
            store = PostgresDeliveryStore(pool, database.settings)
            return [(await store.let_go(86_400.0, 300 * 86_400.0)).actions for _ in range(3)]

    assert asyncio.run(scenario()) == [1000, 201, 0]
    assert look.execute("select count(*) from operator_action").fetchone() == (299,)
