"""Real shop systems (`tests/shops`) as they are recorded: schema, trade, and the shop's own figures at the end."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from psycopg import sql
from recorder.mysql_server import BinlogServer
from recorder.mysql_shop import await_log, binlog_connector
from recorder.mysql_tables import literal, read_table
from recorder.postgres_tables import read_table as read_postgres_table
from shops import magento2, saleor, spree, sylius
from shops.book import Book, Step

from daemon.demo.stack import Connect, PostgresServer, await_confirmation, postgres_connector

SHOPS = Path(__file__).parents[1] / "shops"


@dataclass(frozen=True, slots=True)
class Oms:
    """One shop system: `<name>.sql` is its schema, `<name>.totals.sql` asks it for the money of every order."""

    name: str
    trade: Callable[[Book], None]

    def schema(self) -> str:
        """Its tables."""
        return (SHOPS / f"{self.name}.sql").read_text(encoding="utf-8")

    def totals(self) -> str:
        """One JSON object an order."""
        return (SHOPS / f"{self.name}.totals.sql").read_text(encoding="utf-8")

    def book(self) -> Book:
        """What happens in it."""
        book = Book()
        self.trade(book)
        return book


SALEOR = Oms("saleor", saleor.trade)
SPREE = Oms("spree", spree.trade)
MAGENTO = Oms("magento2", magento2.trade)
SYLIUS = Oms("sylius", sylius.trade)


class PostgresOms:
    """A shop system on PostgreSQL. Topics are `<name>.public.<table>`."""

    def __init__(self, server: PostgresServer, oms: Oms) -> None:
        self._server, self._oms, self._book = server, oms, oms.book()
        self.leave_out = (f"{oms.name}.message",)  # the rig's own marks
        server.create_database(oms.name)
        self._connection = server.connect(oms.name)
        self._connection.execute(oms.schema())

    def close(self) -> None:
        """End the connection."""
        self._connection.close()

    def connector(self) -> dict[str, str]:
        """The connector's properties, as the rig has them."""
        return postgres_connector(self._server.dsn(self._oms.name), prefix=self._oms.name)

    def await_connector(self, _connect: Connect) -> None:
        """Return once every change so far is in Kafka."""
        await_confirmation(self._server, self._oms.name)

    def fill(self) -> None:
        """What the snapshot finds."""
        self._carry_out(self._book.before)

    def live(self) -> None:
        """What the connector streams."""
        self._carry_out(self._book.live)

    def truth(self) -> dict[str, Any]:
        """Each table as it is now."""
        found = self._connection.execute(
            "select relname from pg_class where relkind = 'r' and relnamespace = 'public'::regnamespace order by 1"
        )
        return {f"public.{name}": read_postgres_table(self._connection, name) for (name,) in found.fetchall()}

    def orders(self) -> list[dict[str, Any]]:
        """What the shop's own figures say of each order; numbers as texts."""
        return _orders(text for (text,) in self._connection.execute(self._oms.totals()))

    def _carry_out(self, transactions: Iterable[list[Step]]) -> None:
        for steps in transactions:
            with self._connection.transaction():
                for step in steps:
                    self._connection.execute(step.sql(lambda value: sql.Literal(value).as_string(self._connection)))


class BinlogOms:
    """A shop system on MariaDB. Topics are `<name>.<name>.<table>`."""

    leave_out = ()

    def __init__(self, server: BinlogServer, oms: Oms) -> None:
        self._server, self._oms, self._book = server, oms, oms.book()
        server.run(oms.schema())

    def connector(self) -> dict[str, str]:
        """The connector's properties."""
        return binlog_connector(self._server, self._oms.name)

    def await_connector(self, connect: Connect) -> None:
        """Return once every change so far is in Kafka."""
        await_log(self._server, connect, self._oms.name)

    def fill(self) -> None:
        """What the snapshot finds."""
        self._carry_out(self._book.before)

    def live(self) -> None:
        """What the connector streams."""
        self._carry_out(self._book.live)

    def truth(self) -> dict[str, Any]:
        """Each table as it is now."""
        return {f"{self._oms.name}.{name}": read_table(self._server, name) for name in self._server.run("show tables;")}

    def orders(self) -> list[dict[str, Any]]:
        """What the shop's own figures say of each order; numbers as texts."""
        return _orders(self._server.run(self._oms.totals()))

    def _carry_out(self, transactions: Iterable[list[Step]]) -> None:
        script = [["begin", *(step.sql(literal) for step in steps), "commit"] for steps in transactions]
        self._server.run("".join(f"{statement};\n" for statements in script for statement in statements))


def _orders(texts: Iterable[str]) -> list[dict[str, Any]]:
    return [json.loads(text, parse_float=str, parse_int=str) for text in texts]
