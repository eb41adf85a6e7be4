"""A process that is frozen within a transaction (SIGSTOP, a paused machine) lets go of its locks."""

from __future__ import annotations

import threading

import pytest
from fixtures.postgres import Database

from daemon.errors import StateUnavailable
from daemon.state.database import connect, transaction

pytestmark = pytest.mark.postgres


def test_a_frozen_transaction_is_ended_by_the_server(database: Database) -> None:
    """Whoever waits for its lock gets it after the statement timeout; the frozen one finds its transaction gone."""
    short = database.settings.model_copy(update={"statement_timeout_secs": 0.5})
    locked, got = threading.Event(), threading.Event()

    def frozen() -> None:
        with connect(short) as connection, transaction(connection, short) as cursor:
            cursor.execute("select pg_advisory_xact_lock(7)")
            locked.set()
            assert got.wait(30)
            cursor.execute("select 1")

    caught: list[BaseException] = []

    def guarded() -> None:
        try:
            frozen()
        except BaseException as error:  # noqa: BLE001 - looked at below
            caught.append(error)

    thread = threading.Thread(target=guarded)
    thread.start()
    assert locked.wait(30)
    with connect(database.settings) as connection, transaction(connection, database.settings) as cursor:
        cursor.execute("select pg_advisory_xact_lock(7)")
        got.set()
    thread.join(30)
    assert [type(error) for error in caught] == [StateUnavailable]
