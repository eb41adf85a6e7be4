"""The shop that is recorded from PostgreSQL: every column type that matters, and what happens to rows in a real one."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from psycopg import sql
from recorder.postgres_tables import read_table
from recorder.values import FLOATS, LARGE, REALS, Values, large

from daemon.demo.stack import Connect, PostgresServer, await_confirmation, postgres_connector

DATABASE = "oms"
TABLES = ("customers", "orders", "order_lines", "refunds")
SCHEMA = Path(__file__).with_suffix(".sql")


class PostgresShop:
    """One shop in a database of its own on a server that runs. The same seed makes the same shop, and the same days."""

    leave_out = (f"{DATABASE}.message",)  # the rig's own marks

    def __init__(self, server: PostgresServer, *, full_identity: Sequence[str] = ()) -> None:
        """`full_identity`: the tables that get REPLICA IDENTITY FULL."""
        self._server = server
        server.create_database(DATABASE)
        self._connection = server.connect(DATABASE)
        self._values = Values(seed=20260301)
        self._lines: dict[int, int] = {}
        self._run(SCHEMA.read_text(encoding="utf-8"))
        for table in full_identity:
            self._run(f"alter table {table} replica identity full")

    def close(self) -> None:
        """End the connection."""
        self._connection.close()

    def connector(self) -> dict[str, str]:
        """The connector's properties, as the rig has them."""
        return postgres_connector(self._server.dsn(DATABASE), prefix=DATABASE)

    def await_connector(self, _connect: Connect) -> None:
        """Return once every change so far is in Kafka."""
        await_confirmation(self._server, DATABASE)

    def truth(self) -> dict[str, Any]:
        """Each table as it is now: {"public.orders": {pk, replica_identity, columns, rows}}, rows in its own text."""
        return {f"public.{table}": read_table(self._connection, table) for table in TABLES}

    def fill(self) -> None:
        """The rows that the snapshot finds."""
        for number in range(1, 9):
            self._customer(number)
        for number in range(101, 111):
            self._order(number)
        for number in range(1, 4):
            self._refund(number, order=100 + number)

    def live(self) -> None:
        """The changes that the connector streams."""
        self._orders_come_in()
        self._large_values()
        self._rows_change_and_go()
        self._keys_change()
        self._transactions()
        self._columns_come_and_go()
        self._odd_values()

    def touch(self) -> None:
        """Some rows of every table change a little; their large values do not."""
        self._run("update customers set level = coalesce(level, 0) + 1 where id % 3 = 0")
        self._run("update orders set gift = not gift where id % 3 = 0")
        self._run("update order_lines set quantity = quantity + 1 where (order_id + line_no) % 3 = 0")
        self._run("update refunds set approved = true where id % 2 = 0")

    def _orders_come_in(self) -> None:
        for number in range(9, 13):
            self._customer(number)
        for number in range(111, 127):
            with self._connection.transaction():
                self._order(number)
        for number in (103, 105, 111, 112, 113):
            self._run("update orders set status = 'paid', changed = %s where id = %s", self._values.moment(), number)
        for number in (111, 112):
            with self._connection.transaction():
                self._refund(number, order=number)
                self._run("update orders set status = 'cancelled', discount = null where id = %s", number)

    def _large_values(self) -> None:
        """Large values come, stay while other columns change, are replaced, and go."""
        for number in (2, 3, 10):
            settings = json.dumps({"big": large(f"settings {number}")})
            change = {
                "notes": large(f"notes of customer {number}"),
                "settings": settings,
                "avatar": bytes([number, 0, 255, 7]) * (LARGE // 4),
                "tags": [f"tag {number} {index % 7}" for index in range(1000)],
                "scores": [number * 1000 + index % 9 for index in range(3000)],
            }
            self._update("customers", change, id=number)
        for number in (103, 114):
            self._update(
                "orders",
                {"note": large(f"note of order {number}"), "meta": json.dumps([large(f"meta {number}")])},
                id=number,
            )
        self._update("order_lines", {"memo": large("memo of 103")}, order_id=103, line_no=1)
        self._update("order_lines", {"memo": large("memo of 114")}, order_id=114, line_no=1)
        self._update("refunds", {"detail": json.dumps({"big": large("refund")})}, id=2)
        for number in (2, 3, 10):
            self._run("update customers set level = coalesce(level, 0) + 1 where id = %s", number)
        self._run("update orders set total = total + 1 where id in (103, 114)")
        self._run("update order_lines set quantity = quantity + 1 where memo is not null")
        self._run("update refunds set amount = amount + 0.01 where id = 2")
        self._update("customers", {"notes": large("new notes of customer 3"), "settings": None}, id=3)
        self._run("update customers set avatar = null, tags = '{}' where id = 10")

    def _rows_change_and_go(self) -> None:
        self._run("delete from order_lines where order_id = 104 and line_no = 1")
        self._line(104)
        self._run("update refunds set amount = amount + 1, approved = true where id = 1")
        self._run("delete from refunds where id = 3")
        self._run("delete from orders where id in (106, 115)")
        self._run("delete from customers where id = 5")
        self._customer(5)
        with self._connection.transaction():
            self._run("delete from orders where id = 116")
            self._order(116)

    def _keys_change(self) -> None:
        """Primary keys change: alone, with their dependents, of rows with large values, within a message key."""
        self._run("update customers set id = 902 where id = 2")
        self._run("update customers set id = 910, name = 'Moved' where id = 10")
        self._run("update orders set id = 903 where id = 103")
        self._run("update order_lines set line_no = 70 where order_id = 114 and line_no = 1")
        self._run("update order_lines set order_id = 117, line_no = 71 where order_id = 114 and line_no = 70")
        self._run("update orders set id = 908 where id = 108")
        self._run("update refunds set id = 802 where id = 2")
        self._run("update customers set score = 1.25 where id = 902")
        self._run("update order_lines set quantity = quantity + 1 where order_id = 117")

    def _transactions(self) -> None:
        """Several rows and tables at once, what is rolled back, and two transactions that commit in turned order."""
        self._run("update order_lines set price = price + 0.10 where order_id between 107 and 112")
        with self._connection.transaction():
            self._order(130)
            self._run("update orders set gift = true where id = 130")
            self._run("delete from orders where id = 130")
            self._run("update orders set status = 'shipped' where id in (109, 110)")
        with self._connection.transaction(force_rollback=True):
            self._run("update orders set total = 0")
        with closing(self._server.connect(DATABASE)) as other, other.transaction():
            other.execute("update customers set score = 1 where id = 7")
            with self._connection.transaction():
                self._run("update customers set score = 2 where id = 8")
            other.execute("update customers set score = 3 where id = 9")
        self._run("update customers set name = name where id = 7")

    def _columns_come_and_go(self) -> None:
        """Columns are added, renamed and dropped; refunds are all touched afterwards, customers are not."""
        self._run("alter table customers add column points integer not null default 0, add column segment varchar(20)")
        self._run("alter table refunds rename column reason to cause")
        self._run("alter table refunds drop column scratch")
        self._run("update refunds set amount = amount")
        self._update("customers", {"points": 12, "segment": "éclair"}, id=1)
        self._customer(13)
        self._run("update customers set points = 3 where id = 902")

    def _odd_values(self) -> None:
        """All null, not a number, empty, infinite, before the epoch, before the calendar was reformed, negative."""
        nothing = {"id": 14, "name": "", "created": self._values.moment()}
        self._insert("customers", nothing)
        self._update(
            "customers",
            {"score": float("nan"), "rating": float("inf"), "scores": [], "tags": ["", "NULL", 'a"b\\c,{}', None]},
            id=1,
        )
        self._run("update customers set created = '1965-01-02 03:04:05.000006+00', born = '0044-03-15' where id = 4")
        self._run("update customers set changed = 'infinity' where id = 6")
        self._run("update customers set changed = '-infinity', created = 'infinity' where id = 8")
        self._run("update orders set placed = '2026-03-29 02:30:00.5+02', lead = '-1 day -00:00:01.5' where id = 107")

    def _customer(self, number: int) -> None:
        v = self._values
        self._insert(
            "customers",
            {
                "id": number,
                "name": v.name(),
                "email": v.maybe(f"customer{number}@example.org"),
                "tier": v.maybe(v.lots.choice(("basic", "silver", 'gold "plus"'))),
                "country": v.maybe(v.lots.choice(("DE", "JP", "F"))),
                "active": v.lots.random() < 0.8,
                "born": v.maybe(v.day()),
                "level": v.maybe(v.lots.randrange(-9, 9)),
                "balance": v.maybe(v.number()),
                "credit": v.maybe(v.decimal(4)),
                "score": v.maybe(v.lots.choice(FLOATS)),
                "rating": v.maybe(v.lots.choice(REALS)),
                "external": v.maybe(v.token()),
                "last_ip": v.maybe(v.lots.choice(("10.0.0.7", "10.0.0.0/8", "2001:db8::1"))),
                "tags": v.maybe(v.words()),
                "scores": v.maybe([v.lots.randrange(-99, 99) for _ in range(3)]),
                "settings": v.maybe(v.json()),
                "profile": v.maybe(v.json()),
                "avatar": v.maybe(v.raw()),
                "notes": v.maybe(v.word()),
                "created": v.moment(),
                "seen": v.maybe(v.moment().replace(tzinfo=None)),
                "changed": v.maybe(v.moment().replace(tzinfo=None)),
                "wakes": v.maybe(v.clock()),
                "rings": v.maybe(f"{v.clock()}+05:30"),
                "visit": v.maybe(v.lots.choice(("3 days 04:05:06", "00:00:00.25", "-2 hours", "0"))),
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
                "discount": v.maybe(v.number()),
                "rate": v.maybe(v.lots.choice((1.1, 0.33, 1e-9))),
                "weight": v.maybe(v.lots.choice((0.7, 12.0))),
                "gift": v.maybe(v.lots.random() < 0.5),
                "placed": v.moment(),
                "local": v.moment().replace(tzinfo=None),
                "changed": v.maybe(v.moment().replace(tzinfo=None)),
                "due": v.maybe(v.day()),
                "cutoff": v.maybe(v.clock()),
                "pickup": v.maybe(f"{v.clock().replace(microsecond=0)}-03"),
                "lead": v.maybe(v.lots.choice(("2 days", "05:00:00.000001"))),
                "client": v.maybe("192.168.1.0/24"),
                "token": v.maybe(v.token()),
                "tags": v.maybe(v.words()),
                "codes": v.maybe([v.lots.randrange(10**15), None]),
                "shares": v.maybe([v.money(99), None, v.money(99)]),
                "meta": v.maybe(v.json()),
                "attachment": v.maybe(v.raw()),
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
                "share": v.maybe(v.number()),
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
                "booked": v.moment().replace(tzinfo=None),
                "detail": v.maybe(v.json()),
            },
        )

    def _insert(self, table: str, row: Mapping[str, Any]) -> None:
        columns = sql.SQL(", ").join(map(sql.Identifier, row))
        places = sql.SQL(", ").join(sql.Placeholder() for _ in row)
        statement = sql.SQL("insert into {} ({}) values ({})").format(sql.Identifier(table), columns, places)
        self._connection.execute(statement, list(row.values()))

    def _update(self, table: str, change: Mapping[str, Any], **key: int) -> None:
        def pairs(names: Mapping[str, Any], between: str) -> sql.Composed:
            return sql.SQL(between).join(sql.SQL("{} = %s").format(sql.Identifier(name)) for name in names)

        statement = sql.SQL("update {} set {} where {}").format(
            sql.Identifier(table), pairs(change, ", "), pairs(key, " and ")
        )
        self._connection.execute(statement, [*change.values(), *key.values()])

    def _run(self, statement: str, *parameters: object) -> None:
        self._connection.execute(statement, parameters or None)
