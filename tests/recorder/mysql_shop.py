"""The shop that is recorded from MySQL and MariaDB: their column types, and what happens to rows in a real one.

No foreign keys: InnoDB carries out their cascades without writing them to the binary log, so no connector sees them.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from recorder.mysql_server import DATABASE, PASSWORD, USER, BinlogServer
from recorder.mysql_tables import literal, read_table
from recorder.values import FLOATS, REALS, Values, large

from daemon.demo.connect import JSON_CONVERTER
from daemon.demo.process import wait_until
from daemon.demo.stack import Connect

PREFIX = "oms"
TABLES = ("customers", "orders", "order_lines", "refunds")
SCHEMA = Path(__file__).with_suffix(".sql")


def binlog_connector(server: BinlogServer, prefix: str) -> dict[str, str]:
    """The properties of a connector for the server's database, in the way of the rig's for PostgreSQL."""
    return {
        "name": prefix,
        "connector.class": server.connector,
        "tasks.max": "1",
        "database.hostname": "127.0.0.1",
        "database.port": str(server.port),
        "database.user": USER,
        "database.password": PASSWORD,
        "database.server.id": "5701",
        "database.ssl.mode": server.without_tls,
        "database.include.list": server.database,
        "topic.prefix": prefix,
        "schema.history.internal": "io.debezium.storage.file.history.FileSchemaHistory",
        "schema.history.internal.file.filename": str(server.directory / "schema.history"),
        "snapshot.mode": "initial",
        "tombstones.on.delete": "true",
        "decimal.handling.mode": "string",
        "heartbeat.interval.ms": "1000",
        "poll.interval.ms": "50",
        "topic.creation.default.replication.factor": "1",
        "topic.creation.default.partitions": "3",
        "key.converter": JSON_CONVERTER,
        "key.converter.schemas.enable": "false",
        "value.converter": JSON_CONVERTER,
        "value.converter.schemas.enable": "false",
    }


def await_log(server: BinlogServer, connect: Connect, name: str) -> None:
    """Return once every change so far is in Kafka: the stored offset lies in a binary log that begins after it.

    A heartbeat carries the offset there, and Debezium sends none between events: each new log is one.
    """
    begun = _new_log(server)

    def reached() -> bool:
        _new_log(server)
        return any(offset.get("file", "") >= begun for offset in connect.offsets(name))

    wait_until(reached, "Debezium's offset after the last change", timeout=60, interval=0.5)


def _new_log(server: BinlogServer) -> str:
    return server.run("flush binary logs; show master status;")[-1].split("\t")[0]


class MySqlShop:
    """One shop on a server that runs. The same seed makes the same shop, and the same days."""

    leave_out = ()

    def __init__(self, server: BinlogServer) -> None:
        self._server = server
        self._values = Values(seed=20260302)
        self._script: list[str] = []
        self._lines: dict[int, int] = {}
        schema = SCHEMA.read_text(encoding="utf-8")
        server.run(schema if server.has_json else schema.replace(" json", " longtext"))

    def connector(self) -> dict[str, str]:
        """The connector's properties."""
        return binlog_connector(self._server, PREFIX)

    def await_connector(self, connect: Connect) -> None:
        """Return once every change so far is in Kafka."""
        await_log(self._server, connect, PREFIX)

    def truth(self) -> dict[str, Any]:
        """Each table as it is now: {"shop.orders": {pk, replica_identity, columns, rows}}, rows in its own text.

        Bytes are in hexadecimal, bits are numbers.
        """
        return {f"{DATABASE}.{table}": read_table(self._server, table) for table in TABLES}

    def fill(self) -> None:
        """The rows that the snapshot finds."""
        for number in range(1, 9):
            self._customer(number)
        for number in range(101, 111):
            self._order(number)
        for number in range(1, 4):
            self._refund(number, order=100 + number)
        self._send()

    def live(self) -> None:
        """The changes that the connector streams."""
        self._orders_come_in()
        self._rows_change_and_go()
        self._keys_change()
        self._transactions()
        self._columns_come_and_go()
        self._odd_values()
        self._send()

    def _orders_come_in(self) -> None:
        for number in range(9, 13):
            self._customer(number)
        for number in range(111, 123):
            self._do("begin")
            self._order(number)
            self._do("commit")
        for number in (103, 105, 111, 112, 113):
            self._do(f"update orders set status = 'paid', total = total + 0.01 where id = {number}")
        for number in (111, 112):
            self._do("begin")
            self._refund(number, order=number)
            self._do(f"update orders set status = 'cancelled', discount = null where id = {number}")
            self._do("commit")
        self._do(f"update customers set notes = {literal(large('notes'))} where id = 2")

    def _rows_change_and_go(self) -> None:
        self._do("delete from order_lines where order_id = 104 and line_no = 1")
        self._line(104)
        self._do("update refunds set amount = amount + 1, approved = b'1' where id = 1")
        self._do("delete from refunds where id = 3")
        for number in (106, 115):
            self._do("begin", f"delete from order_lines where order_id = {number}")
            self._do(f"delete from orders where id = {number}", "commit")
        self._do("delete from customers where id = 5")
        self._customer(5)
        self._do("begin", "delete from order_lines where order_id = 116", "delete from orders where id = 116")
        self._order(116)
        self._do("commit")

    def _keys_change(self) -> None:
        self._do("update customers set id = 902 where id = 2")
        self._do("update customers set id = 910, name = 'Moved' where id = 10")
        self._do("begin", "update orders set id = 903 where id = 103")
        self._do("update order_lines set order_id = 903 where order_id = 103", "commit")
        self._do("update order_lines set line_no = 70 where order_id = 114 and line_no = 1")
        self._do("update customers set score = 1.25 where id = 902")

    def _transactions(self) -> None:
        """Several rows and tables at once, one row many times, and what is rolled back."""
        self._do("update order_lines set price = price + 0.10 where order_id between 107 and 112")
        self._do("begin")
        self._order(130)
        self._do("update orders set gift = 1 where id = 130", "delete from orders where id = 130")
        self._do("delete from order_lines where order_id = 130")
        self._do("update orders set status = 'shipped' where id in (109, 110)", "commit")
        self._do("begin", "update orders set total = 0", "rollback")
        self._do("update customers set name = name where id = 7")
        self._do(
            "insert into customers (id, name, created) values (1, 'x', '2026-03-02') "
            "on duplicate key update level = 5, name = 'Zoë'"
        )
        self._do("replace into refunds (id, order_id, amount, booked) values (1, 101, 5, '2026-03-02 03:04:05')")

    def _columns_come_and_go(self) -> None:
        """Columns are added, renamed and dropped; refunds are all touched afterwards, customers are not."""
        self._do("alter table customers add column points int not null default 0, add column segment varchar(20)")
        self._do(
            "alter table refunds change column reason cause varchar(80)", "alter table refunds drop column scratch"
        )
        self._do("update refunds set amount = amount + 0.01")
        self._do("update customers set points = 12, segment = 'éclair' where id = 1")
        self._customer(13)
        self._do("update customers set points = 3 where id = 902")

    def _odd_values(self) -> None:
        """All null, times beyond a day, the ends of what a date may be."""
        self._insert("customers", {"id": 14, "name": "", "created": self._values.moment()})
        self._do("update customers set wakes = '-100:30:00', shift = '838:59:59.5', mask = b'10000001' where id = 1")
        self._do("update customers set created = '1971-01-02 03:04:05.000006', born = '1066-10-14' where id = 4")
        self._do(
            "update customers set seen = '9999-12-31 23:59:59', seen_us = '1000-01-01 00:00:00.000001' where id = 4"
        )

    def _customer(self, number: int) -> None:
        v = self._values
        self._insert(
            "customers",
            {
                "id": number,
                "name": v.name(),
                "email": v.maybe(f"customer{number}@example.org"),
                "latin": v.maybe(v.lots.choice(("Café", "Müller", "Nuñez"))),
                "tier": v.maybe(v.lots.choice(("basic", "silver", 'gold "plus"'))),
                "channels": v.maybe(v.lots.choice(("", "web", "web,télé"))),
                "active": v.lots.random() < 0.8,
                "flag": v.maybe(v.lots.random() < 0.5),
                "mask": v.maybe(v.lots.randrange(256)),
                "wide": v.maybe(v.lots.randrange(2**20)),
                "born": v.maybe(v.day()),
                "since": v.maybe(v.lots.randrange(1970, 2026)),
                "level": v.maybe(v.lots.randrange(-9, 9)),
                "visits": v.maybe(v.lots.randrange(2**24)),
                "most": v.maybe(v.lots.choice((2**63, 2**64 - 1, 7))),
                "balance": v.maybe(v.number()),
                "credit": v.maybe(v.decimal(4)),
                "score": v.maybe(v.lots.choice(FLOATS)),
                "rating": v.maybe(v.lots.choice(REALS)),
                "settings": v.maybe(v.json()),
                "notes": v.maybe(v.word()),
                "avatar": v.maybe(v.raw()),
                "code": v.maybe(v.lots.choice((b"\x00\x01\x02\x00", b"abcd", b"ab"))),
                "mark": v.maybe(v.raw()[:8]),
                "wakes": v.maybe(v.clock().replace(microsecond=0)),
                "shift": v.maybe(v.clock()),
                "seen": v.maybe(v.moment().replace(microsecond=0)),
                "seen_ms": v.maybe(v.moment().replace(microsecond=417_000)),
                "seen_us": v.maybe(v.moment()),
                "created": v.moment(),
                "changed": v.maybe(v.moment().replace(microsecond=0)),
            },
        )

    def _order(self, number: int) -> None:
        v = self._values
        self._insert(
            "orders",
            {
                "id": number,
                "customer_id": v.lots.randrange(1, 9),
                "number": f"N{number}",
                "status": "open",
                "currency": v.maybe("EUR"),
                "total": v.money(),
                "discount": v.maybe(v.lots.randrange(-999, 999)),
                "rate": v.maybe(v.lots.choice((1.1, 0.33, 1e-9))),
                "weight": v.maybe(v.lots.choice((0.7, 12.125))),
                "gift": v.maybe(v.lots.random() < 0.5),
                "placed": v.moment().replace(microsecond=120_000),
                "local": v.moment().replace(microsecond=9_000),
                "due": v.maybe(v.day()),
                "cutoff": v.maybe(v.clock().replace(microsecond=500_000)),
                "meta": v.maybe(v.json()),
                "note": v.maybe(v.word()),
            },
        )
        self._lines[number] = 0
        for _ in range(v.lots.randrange(1, 4)):
            self._line(number)

    def _line(self, order: int) -> None:
        v = self._values
        self._lines[order] += 1
        self._insert(
            "order_lines",
            {
                "order_id": order,
                "line_no": self._lines[order],
                "sku": f"S-{v.lots.randrange(10**6)}",
                "title": v.maybe(v.word()),
                "quantity": v.lots.randrange(1, 9),
                "price": v.money(99),
                "tax": v.maybe(v.decimal(4, digits=6)),
                "properties": v.maybe(v.json()),
            },
        )

    def _refund(self, number: int, *, order: int) -> None:
        v = self._values
        self._insert(
            "refunds",
            {
                "id": number,
                "order_id": order,
                "amount": v.money(),
                "reason": v.maybe(v.word()),
                "approved": v.maybe(False),
                "scratch": v.maybe(v.lots.randrange(9)),
                "booked": v.moment().replace(microsecond=0),
            },
        )

    def _insert(self, table: str, row: Mapping[str, Any]) -> None:
        values = ", ".join(map(literal, row.values()))
        self._do(f"insert into {table} ({', '.join(row)}) values ({values})")

    def _do(self, *statements: str) -> None:
        self._script += statements

    def _send(self) -> None:
        self._server.run(";\n".join(self._script) + ";\n")
        self._script.clear()
