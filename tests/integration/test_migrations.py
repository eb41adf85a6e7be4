"""Migrations: by several replicas at once, once each, and never onto a schema that is newer than the program."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import psycopg
import pytest
from fixtures.postgres import Database

from daemon.errors import SchemaError, StateUnavailable
from daemon.settings import Postgres
from daemon.state.database import connect, transaction
from daemon.state.migrate import check_schema, known_migrations, migrate

pytestmark = pytest.mark.postgres


def test_replicas_that_migrate_at_once_apply_each_migration_once(empty_database: Database) -> None:
    """Four at the same moment: one does the work, the others find it done."""
    with ThreadPoolExecutor(4) as pool:
        done = list(pool.map(lambda _: migrate(empty_database.settings), range(4)))
    assert sorted(done) == [[], [], [], list(known_migrations())]
    with connect(empty_database.settings) as connection, transaction(connection, empty_database.settings) as cursor:
        check_schema(cursor, empty_database.settings.schema_name)


def test_a_schema_that_is_missing_is_named_with_the_cure(empty_database: Database) -> None:
    """Before `migrate` nothing else works, and says why."""
    settings = empty_database.settings
    with (
        connect(settings) as connection,
        transaction(connection, settings) as cursor,
        pytest.raises(SchemaError, match="run `order-sync migrate` first"),
    ):
        check_schema(cursor, settings.schema_name)


def test_a_newer_schema_is_not_touched(database: Database) -> None:
    """A program that does not know a migration neither migrates nor refuses to run: schemas only expand."""
    settings = database.settings
    with closing(database.connect()) as connection:
        connection.execute("insert into order_sync.schema_migration (number) values (9999)")
    with pytest.raises(SchemaError, match="migration 9999"):
        migrate(settings)
    with connect(settings) as connection, transaction(connection, settings) as cursor:
        check_schema(cursor, settings.schema_name)


def test_two_schemas_in_one_database_are_two_installations(database: Database) -> None:
    """A second installation beside the first has a schema, and a search path, of its own."""
    other = Postgres(dsn=database.settings.dsn, schema_name="second")
    assert migrate(other) == list(known_migrations())
    with connect(other) as connection, transaction(connection, other) as cursor:
        cursor.execute("insert into source (name) values ('mine')")
    with connect(database.settings) as connection, transaction(connection, database.settings) as cursor:
        cursor.execute("select name from source")
        assert cursor.fetchall() == []


def test_a_role_that_may_not_create_is_told(empty_database: Database) -> None:
    """The cure names the privilege."""
    with closing(empty_database.connect()) as connection:
        connection.execute("create role lowly login")
        connection.execute(f"revoke create on database {empty_database.name} from public")
    lowly = Postgres(dsn=empty_database.settings.dsn + " user=lowly")
    try:
        with pytest.raises(SchemaError, match="may not create schema"):
            migrate(lowly)
    finally:
        with closing(empty_database.connect()) as connection:
            connection.execute("drop role lowly")


def test_a_demoted_server_is_a_server_that_is_away(database: Database) -> None:
    """Writes on a read-only server are tried again elsewhere: the connection is given up."""
    settings = database.settings
    with closing(database.connect()) as connection:
        connection.execute(f"alter database {database.name} set default_transaction_read_only = on")
    given_up = connect(settings)
    with pytest.raises(StateUnavailable), transaction(given_up, settings) as cursor:
        cursor.execute("insert into source (name) values ('x')")
    assert given_up.closed


def test_search_path_and_timeouts_end_with_the_transaction(database: Database) -> None:
    """A connection keeps nothing between transactions, as pgbouncer's transaction mode demands."""
    with connect(database.settings) as connection:
        before = connection.execute("select current_setting('search_path'), current_setting('statement_timeout')")
        remembered = before.fetchone()
        with transaction(connection, database.settings) as cursor:
            cursor.execute("select current_setting('search_path')")
            assert cursor.fetchone() == ("order_sync",)
        after = connection.execute("select current_setting('search_path'), current_setting('statement_timeout')")
        assert after.fetchone() == remembered
        with pytest.raises(ZeroDivisionError), transaction(connection, database.settings):
            raise ZeroDivisionError
        assert connection.info.transaction_status == psycopg.pq.TransactionStatus.IDLE
