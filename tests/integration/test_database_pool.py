"""The pool that tests have their databases from: each one meets what a fresh copy of the template holds."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import psycopg
import pytest
from fixtures.database_pool import DatabasePool

from daemon.demo.stack import PostgresAt

pytestmark = pytest.mark.postgres

TEMPLATE = "pool_template"


@pytest.fixture(scope="module")
def pool(postgres_server: PostgresAt) -> Iterator[DatabasePool]:
    """Of a template with a counter that stands at 2, a row, and one that refers to it."""
    postgres_server.create_database(TEMPLATE)
    with closing(postgres_server.connect(TEMPLATE)) as connection:
        connection.execute("create table kept (id int generated always as identity primary key, what text)")
        connection.execute("create table below (kept int not null references kept)")
        connection.execute("insert into kept (what) values ('gone'), ('a\\b\n')")
        connection.execute("delete from kept where what = 'gone'")
        connection.execute("insert into below select id from kept")
    with closing(DatabasePool(postgres_server, TEMPLATE)) as made:
        yield made
    postgres_server.drop_database(TEMPLATE)


def _oid(connection: psycopg.Connection) -> int:
    [(oid,)] = connection.execute("select oid from pg_database where datname = current_database()").fetchall()
    return int(oid)


def test_rows_and_numbers_are_as_in_the_beginning(pool: DatabasePool, postgres_server: PostgresAt) -> None:
    """Under another name, so that nobody who is left over finds it; his connection is gone."""
    with pool.database() as before, closing(postgres_server.connect(before)) as left:
        first = _oid(left)
        left.execute("delete from below")
        left.execute("update kept set what = 'changed'")
        left.execute("insert into kept (what) values ('more'), ('and more')")
    with pool.database() as after, closing(postgres_server.connect(after)) as connection:
        assert _oid(connection) == first
        assert connection.execute("select * from kept").fetchall() == [(2, "a\\b\n")]
        assert connection.execute("select * from below").fetchall() == [(2,)]
        assert connection.execute("insert into kept (what) values ('x') returning id").fetchone() == (3,)
    assert before != after
    with pytest.raises(psycopg.OperationalError, match="does not exist"):
        postgres_server.connect(before)


@pytest.mark.parametrize(
    "statement",
    [
        "alter table kept add column more int",
        "alter table kept drop column what",
        "alter table below drop constraint below_kept_fkey",
        "alter table kept alter column what set not null",
        "create index on kept (what)",
        "create schema mine",
        "create function f() returns int language sql as 'select 1'",
        "grant select on kept to public",
        "drop table below",
        "analyze kept",
        "insert into kept (what) select repeat('x', 1000) from generate_series(1, 2000)",
        "do $$ begin execute format('alter database %I set work_mem = 65', current_database()); end $$",
    ],
)
def test_one_that_differs_in_more_than_rows_is_not_used_again(
    pool: DatabasePool, postgres_server: PostgresAt, statement: str
) -> None:
    """The next one is another database."""
    with pool.database() as before, closing(postgres_server.connect(before)) as connection:
        first = _oid(connection)
        connection.execute(statement)
    with pool.database() as after, closing(postgres_server.connect(after)) as connection:
        assert _oid(connection) != first
        assert connection.execute("select * from below").fetchall() == [(2,)]
