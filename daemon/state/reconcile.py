"""What reconcile reads of the state, and writes: a page at a time, and nothing that delivery waits for."""

from __future__ import annotations

import zlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import date, datetime
from typing import Self

from daemon.settings import Postgres
from daemon.state.database import connect, transaction
from daemon.state.mend import registered
from daemon.state.migrate import check_schema
from daemon.state.queries import queries

_SQL = queries("reconcile.sql")

PAGE = 1000


@dataclass(frozen=True, slots=True)
class Accepted:
    """An order's record. `body`: the document last accepted, if any; `finished` as in `delivery.reconcile.Ours`."""

    order_key: str
    order_id: str
    body: bytes | None
    finished: bool = False


@dataclass(frozen=True, slots=True)
class Result:
    """What a run found."""

    first_day: date
    last_day: date
    compared: int
    missing: int
    extra: int
    different: int
    unfinished: int
    silent_days: int
    marked: int


class Books:
    """The records of one destination, for comparing. A context manager over one connection."""

    def __init__(self, settings: Postgres, destination: str, settle_secs: float) -> None:
        self._settings = settings
        self._name = destination
        self._settle_secs = settle_secs

    def __enter__(self) -> Self:
        self._connection = connect(self._settings)
        with transaction(self._connection, self._settings) as cursor:
            check_schema(cursor, self._settings.schema_name)
            self._destination = registered(cursor, [self._name])[self._name]
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def now(self) -> datetime:
        """The database's clock."""
        with transaction(self._connection, self._settings) as cursor:
            cursor.execute(_SQL["now"])
            [(now,)] = cursor.fetchall()
        assert isinstance(now, datetime)  # noqa: S101 - the column's type
        return now

    def accepted(self) -> Iterator[Accepted]:
        """Every order that was ever accepted."""
        after = ""
        while True:
            with transaction(self._connection, self._settings) as cursor:
                page = {"destination": self._destination, "after": after, "limit": PAGE}
                cursor.execute(_SQL["accepted_page"], page)
                found = cursor.fetchall()
            if not found:
                return
            after = found[-1][0]
            yield from (Accepted(key, order_id, zlib.decompress(body)) for key, order_id, body in found)

    def by_id(self, order_ids: Collection[str], asked_at: datetime) -> dict[str, Accepted]:
        """The records of orders by their id at the API, as they stand now against a question of then."""
        with transaction(self._connection, self._settings) as cursor:
            cursor.execute(
                _SQL["by_vendor_id"],
                {
                    "destination": self._destination,
                    "order_ids": list(order_ids),
                    "asked_at": asked_at,
                    "settle_secs": self._settle_secs,
                },
            )
            return {
                order_id: Accepted(key, order_id, None if body is None else zlib.decompress(body), bool(finished))
                for key, order_id, body, finished in cursor.fetchall()
            }

    def note(self, result: Result) -> None:
        """Keep the result, for the metric and for people."""
        with transaction(self._connection, self._settings) as cursor:
            cursor.execute(
                _SQL["note_reconciliation"],
                {"destination": self._destination}
                | {name: getattr(result, name) for name in Result.__dataclass_fields__},
            )
