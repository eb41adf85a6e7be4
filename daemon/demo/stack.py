"""The one embedded rig: what demo, tests and bench run against where nothing else is given.

Loopback only, free ports, files in one directory, nothing left running: a part is a context manager, its children die
with this process on Linux even where it is killed with -9, and Ctrl-C at the terminal reaches this process alone.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from daemon.demo.broker import CLIENT_PROPERTIES, Broker, create_topic
from daemon.demo.connect import Connect, postgres_connector
from daemon.demo.postgres import PostgresAt, PostgresServer
from daemon.demo.process import RigError, wait_until

__all__ = [
    "CLIENT_PROPERTIES",
    "Broker",
    "Connect",
    "PostgresAt",
    "PostgresServer",
    "RigError",
    "Stack",
    "await_confirmation",
    "create_topic",
    "postgres_connector",
]


class BrokerPart(Protocol):
    """A part that serves Kafka's protocol at `bootstrap`."""

    @property
    def bootstrap(self) -> str: ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class Stack:
    """Postgres (OMS and state in databases of their own), broker and Kafka Connect, started in that order.

    `oms` and `state` are the names of the two databases; `note` is told of each step. `broker` makes the broker of a
    directory that is given to it alone.
    """

    oms = "oms"
    state = "order_sync"

    def __init__(
        self,
        directory: Path | None = None,
        *,
        broker: Callable[[Path], BrokerPart] = Broker,
        note: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._given = directory
        self._make_broker = broker
        self._note = note
        self._exit = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as parts:
            directory = self._given
            if directory is None:
                directory = Path(tempfile.mkdtemp(prefix="order-sync-rig-"))
                parts.callback(shutil.rmtree, directory, ignore_errors=True)
            self.directory = directory
            self._note("starting PostgreSQL")
            self.postgres = parts.enter_context(PostgresServer(directory / "postgres", logical=True))
            for name in (self.oms, self.state):
                self.postgres.create_database(name)
            self._note("starting the broker")
            self.broker = parts.enter_context(self._make_broker(directory / "broker"))
            self._note("starting Kafka Connect")
            self.connect = parts.enter_context(Connect(directory / "connect", self.broker.bootstrap))
            self._exit = parts.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._exit.close()

    def start_connector(self, **properties: str) -> None:
        """Start Debezium over the OMS database, whose tables must exist (underscores in names stand for dots)."""
        self._note("starting Debezium")
        self.connect.start_connector(postgres_connector(self.postgres.dsn(self.oms), prefix=self.oms, **properties))

    def await_connector(self, *, timeout: float = 60.0) -> None:
        """Return once all that is committed in the OMS is in Kafka."""
        await_confirmation(self.postgres, self.oms, timeout=timeout)


def await_confirmation(server: PostgresAt, database: str, *, timeout: float = 60.0) -> None:
    """Return once all that is committed in the database is in Kafka: Debezium has confirmed the log up to here.

    It does so with the next event it sends: a logical message, which belongs to no table.
    """
    with closing(server.connect(database)) as connection:
        here = connection.execute("select pg_current_wal_insert_lsn()").fetchone()
        connection.execute("select pg_logical_emit_message(true, 'order-sync', '')")

        def confirmed() -> bool:
            row = connection.execute(
                "select bool_and(confirmed_flush_lsn > %s) from pg_replication_slots where database = %s",
                [here and here[0], database],
            ).fetchone()
            return bool(row and row[0])

        wait_until(confirmed, "Debezium's confirmation of the last change", timeout=timeout)
