"""Connections and transactions, safe behind pgbouncer in transaction mode: no session state, no prepared statements.

Every transaction begins by setting its own search path, so a connection belongs to nobody between two of them.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from decimal import Decimal
from typing import Any, TypeAlias

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from daemon.errors import StateContended, StateRefused, StateUnavailable
from daemon.settings import Postgres, Secret

Row: TypeAlias = "tuple[Any, ...]"
Cursor: TypeAlias = "psycopg.Cursor[Row]"
AsyncCursor: TypeAlias = "psycopg.AsyncCursor[Row]"

# Two transactions stood in each other's way; the one that was ended can be tried again at once.
_CONTENDED = (psycopg.errors.DeadlockDetected, psycopg.errors.SerializationFailure)

# Postgres will never take these values, however often they are offered.
_REFUSED = (psycopg.DataError, psycopg.errors.ProgramLimitExceeded)

# The same transaction may well succeed later: the server went away, is starting or ending, was demoted, a statement or
# lock took too long, no space just now.
_PASSING = (
    psycopg.OperationalError,
    psycopg.InterfaceError,
    psycopg.errors.IdleInTransactionSessionTimeout,
    psycopg.errors.QueryCanceled,
    psycopg.errors.ReadOnlySqlTransaction,
    PoolTimeout,
)


def _translated(error: Exception) -> StateUnavailable | StateRefused:
    """What the caller does next decides the error; its text never holds a row value."""
    text = f"Postgres: {type(error).__name__}: {' '.join(str(error).split())}"
    if isinstance(error, _CONTENDED):
        return StateContended(text)
    if isinstance(error, _REFUSED):
        return StateRefused(f"Postgres refuses a value: {type(error).__name__}")
    return StateUnavailable(text)


_read_json = json.JSONDecoder(parse_float=Decimal).decode  # `json.loads` would make a decoder for every text


def exact_json(text: str) -> Any:
    """JSON with every number as int or Decimal."""
    return _read_json(text)


def conninfo(settings: Postgres) -> str:
    """The libpq connection string, with the password read from its secret now. Raises SettingsError without one."""
    extra: dict[str, Any] = {"connect_timeout": settings.connect_timeout_secs, "application_name": "order-sync"}
    if settings.password_env:
        extra["password"] = Secret(settings.password_env).read()
    # Keepalives notice a server that vanished without a word within about a minute.
    return make_conninfo(
        settings.dsn, keepalives_idle=20, keepalives_interval=10, keepalives_count=4, tcp_user_timeout=60_000, **extra
    )


def connect(settings: Postgres) -> psycopg.Connection[Row]:
    """One connection in autocommit mode. Raises StateUnavailable where the server cannot be reached or refuses."""
    try:
        return psycopg.connect(conninfo(settings), autocommit=True, prepare_threshold=None)
    except psycopg.OperationalError as error:
        raise StateUnavailable(f"Postgres: {' '.join(str(error).split())}") from error


def _begin(settings: Postgres) -> sql.Composed:
    # A process that is frozen within a transaction must not keep its locks from all the others.
    return sql.SQL(
        "begin; set local search_path to {schema}; set local statement_timeout to {millis};"
        " set local idle_in_transaction_session_timeout to {millis}"
    ).format(
        schema=sql.Identifier(settings.schema_name), millis=sql.Literal(int(settings.statement_timeout_secs * 1000))
    )


@contextmanager
def transaction(connection: psycopg.Connection[Row], settings: Postgres) -> Iterator[Cursor]:
    """One READ COMMITTED transaction in our schema: commits at the end of the block, rolls back on any error.

    Raises StateUnavailable for everything that may pass by itself (StateContended where it may be tried again at once)
    and StateRefused for values that Postgres never takes; nothing was changed then, unless the connection broke during
    the commit itself.
    """
    try:
        with connection.cursor() as cursor:
            cursor.execute(_begin(settings))
            try:
                yield cursor
            except BaseException:
                if not connection.closed:
                    cursor.execute("rollback")
                raise
            cursor.execute("commit")
    except (*_CONTENDED, *_REFUSED, *_PASSING) as error:
        if isinstance(error, psycopg.errors.ReadOnlySqlTransaction):
            connection.close()  # a demoted server: the next connection may find the new primary
        raise _translated(error) from error


def async_pool(settings: Postgres) -> AsyncConnectionPool[psycopg.AsyncConnection[Row]]:
    """The delivery loop's pool, not opened yet. The password is read anew for each connection."""

    async def connected() -> str:
        return conninfo(settings)

    return AsyncConnectionPool(
        conninfo=connected,
        min_size=1,
        max_size=settings.delivery_connections,
        timeout=settings.connect_timeout_secs,
        kwargs={"autocommit": True, "prepare_threshold": None},
        check=AsyncConnectionPool.check_connection,
        open=False,
        name="order-sync",
    )


@asynccontextmanager
async def async_transaction(
    pool: AsyncConnectionPool[psycopg.AsyncConnection[Row]], settings: Postgres
) -> AsyncIterator[AsyncCursor]:
    """As `transaction`, on a connection of the pool."""
    try:
        async with pool.connection() as connection, connection.cursor() as cursor:
            await cursor.execute(_begin(settings))
            try:
                yield cursor
            except psycopg.errors.ReadOnlySqlTransaction:
                await connection.close()  # a demoted server: the next connection may find the new primary
                raise
            except BaseException:
                if not connection.closed:
                    await cursor.execute("rollback")
                raise
            await cursor.execute("commit")
    except (*_CONTENDED, *_REFUSED, *_PASSING) as error:
        raise _translated(error) from error
