"""The stores keep their contracts as a role that may only read and write rows, also through pgbouncer.

pgbouncer in transaction mode gives each transaction another session: nothing may be left in one or expected there.
"""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest
from delivery_store_suite import DeliveryStoreSuite, Play
from fixtures.postgres import Database
from fixtures.run_time_role import BOUNCER, Roles
from ingest_state_suite import IngestStateSuite
from ingest_store_suite import IngestStoreSuite, Rig
from psycopg.conninfo import make_conninfo
from test_postgres_delivery_store import play_on
from test_postgres_ingest_store import PostgresRig

pytestmark = pytest.mark.postgres


class TestDeliveryStoreAsRole(DeliveryStoreSuite):
    @pytest.fixture
    def play(self, database_as_role: Database) -> Iterator[Play]:
        with database_as_role.connect() as connection:
            yield play_on(database_as_role, connection)


class TestIngestStoreAsRole(IngestStateSuite, IngestStoreSuite):
    @pytest.fixture
    def rig(self, database_as_role: Database) -> Iterator[Rig]:
        rig = PostgresRig(database_as_role)
        yield rig
        rig.store.close()
        rig.look.close()


def test_pgbouncer_is_between(way_in: str) -> None:
    """All of the above went through it, on fewer sessions than the tests open."""
    if BOUNCER is None:
        pytest.skip("pgbouncer is not installed (package pgbouncer): the run-time role was tried without it")
    with psycopg.connect(
        make_conninfo(way_in, dbname="pgbouncer"), autocommit=True, cursor_factory=psycopg.ClientCursor
    ) as admin:
        [(version,)] = admin.execute("show version").fetchall()
    assert version.lower().startswith("pgbouncer")


DDL = (
    "create table order_sync.mine (id int)",
    "alter table order_sync.order_sync add column mine int",
    "drop table order_sync.lease",
    "create schema mine",
    "create index on order_sync.source_row (key)",
    "truncate order_sync.source_row",
)


@pytest.mark.parametrize("statement", DDL)
def test_the_run_time_role_changes_no_table(made_roles: Roles, statement: str) -> None:
    """It has rows, and nothing else."""
    with (
        psycopg.connect(made_roles.dsn(made_roles.run_time), autocommit=True) as connection,
        pytest.raises(psycopg.errors.InsufficientPrivilege),
    ):
        connection.execute(statement)


def test_what_a_later_migration_makes_is_granted_too(made_roles: Roles) -> None:
    """The printed default privileges hold for tables, sequences and functions that the migrating role makes."""
    with psycopg.connect(made_roles.dsn(made_roles.owner)) as owner:
        owner.execute("set search_path to order_sync")
        owner.execute("create table later (id bigint generated always as identity, n bigserial)")
        owner.execute("create function later_one() returns int language sql as 'select 1'")
        owner.execute("revoke execute on function later_one() from public")
        owner.execute(f"set local role {made_roles.owner}")
        allowed = owner.execute(
            "select has_table_privilege(%(role)s, 'later', 'select, insert, update, delete'),"
            " has_sequence_privilege(%(role)s, 'later_n_seq', 'usage'),"
            " has_function_privilege(%(role)s, 'later_one()', 'execute')",
            {"role": made_roles.run_time},
        ).fetchone()
        owner.rollback()
    assert allowed == (True, True, True)
