"""The statements with which the demo shop writes its OMS database. Each method is part of its caller's transaction."""

from __future__ import annotations

import random
import time
from datetime import datetime
from decimal import Decimal
from uuid import UUID

import psycopg
from psycopg.types.json import Jsonb

from daemon.demo.shop import catalogue
from daemon.demo.shop.catalogue import Customer, Market, Variant
from daemon.demo.shop.model import Line, Order

PRODUCTS = 40
CUSTOMERS = 120
LONG_NOTE_CHARS = 6000  # kept outside the row by PostgreSQL: an update that leaves it alone does not report it


class Counter:
    """Where orders are written down."""

    def __init__(self, connection: psycopg.Connection, rng: random.Random) -> None:
        self._db = connection
        self._rng = rng
        self._numbers = iter(range(100_001, 10_000_000))
        self._variants: list[Variant] = []
        self.customers: list[Customer] = []

    def kind(self, number: str, kind: str) -> None:
        """Note that an order is of this kind, for the comparison."""
        self._db.execute("insert into demo.order_kind values (%s, %s) on conflict do nothing", [number, kind])

    def stock(self) -> None:
        """Fill the catalogue and open the accounts."""
        titles, self._variants = catalogue.products(self._rng, PRODUCTS)
        self.customers = [catalogue.customer(self._rng, number) for number in range(CUSTOMERS)]
        with self._db.transaction(), self._db.cursor() as cursor:
            cursor.executemany("insert into products (title) values (%s)", [[title] for title in titles])
            cursor.executemany(
                "insert into variants values (%s, %s, %s, %s)",
                [(one.sku, one.product, one.name, one.price_usd) for one in self._variants],
            )
            cursor.executemany(
                "insert into customers (id, email, name, phone) values (%s, %s, %s, %s)",
                [(one.id, one.email, one.name, one.phone) for one in self.customers],
            )
            for one in self.customers:
                self._address(one.id, one.name, one.market)

    def _address(self, customer: UUID | None, recipient: str, market: Market) -> int:
        city, region, code = self._rng.choice(market.places)
        second = self._rng.choice([None, "", "Apt 4", "c/o Ω Studio"])
        row = self._db.execute(
            "insert into addresses (customer_id, recipient, address1, address2, city, region, zip, country)"
            " values (%s, %s, %s, %s, %s, %s, %s, %s) returning id",
            [
                customer,
                recipient,
                f"{self._rng.randint(1, 999)} High Street",
                second,
                city,
                region,
                code,
                market.country,
            ],
        ).fetchone()
        return int(row[0]) if row else 0

    def place(self, placed: datetime) -> Order:
        """Write down an order that has not been paid; a few stay drafts for good."""
        rng = self._rng
        guest = rng.random() < 0.25
        customer = None if guest else rng.choice(self.customers)
        market = customer.market if customer else rng.choices(catalogue.MARKETS, catalogue.MARKET_WEIGHTS)[0]
        order = Order(
            UUID(int=rng.getrandbits(128), version=4),
            f"S-{next(self._numbers)}",
            market,
            shipping=rng.choice(market.shipping),
            discount=Decimal(0),
            status="draft" if rng.random() < 0.02 else "pending",
        )
        row = {
            "id": order.id,
            "number": order.number,
            "status": order.status,
            "channel": rng.choice(catalogue.CHANNELS),
            "customer_id": customer.id if customer else None,
            "guest_email": f"Guest.{rng.randint(1, 10**9)}@Example.com" if guest else None,
            "guest_phone": catalogue.phone(rng, market) if guest else None,
            "shipping_address_id": self._shipping_address(customer, market),
            "currency": market.currency,
            "is_renewal": rng.random() < 0.1,
            "ip": f"203.0.113.{rng.randint(1, 254)}" if rng.random() < 0.7 else None,
            "details": self._details(),
            "placed_at": placed,
        }
        names, values = ", ".join(row), ", ".join(f"%({name})s" for name in row)
        self._db.execute(f"insert into orders ({names}) values ({values})", row)
        share = Decimal(rng.choice([0, 0, 0, 5, 10, 33])) / 100
        for _ in range(rng.randint(1, 4)):
            self.add_line(order, share)
        if order.discount:
            self._db.execute(
                "insert into order_discounts (order_id, code, amount) values (%s, %s, %s)",
                [order.id, rng.choice([*catalogue.CODES, None]), order.discount],
            )
        self.store_sums(order)
        self.kind(order.number, "draft" if order.status == "draft" else "placed")
        if guest:
            self.kind(order.number, "guest")
        if market.currency != "USD":
            self.kind(order.number, "second currency")
        return order

    def _shipping_address(self, customer: Customer | None, market: Market) -> int | None:
        if self._rng.random() < 0.05:
            return None  # nothing to ship
        return self._address(customer.id if customer else None, catalogue.person(self._rng), market)

    def _details(self) -> Jsonb | None:
        if self._rng.random() < 0.3:
            return None
        tags = self._rng.sample(["gift", "express", "b2b"], self._rng.randint(0, 2))
        note = "".join(self._rng.choices("abcdefghijklmnopqrstuvwxyz0123456789", k=LONG_NOTE_CHARS))
        return Jsonb({"tags": tags} | ({"note": note} if self._rng.random() < 0.2 else {}))

    def add_line(self, order: Order, discount_share: Decimal) -> None:
        """One more line, with this share of its price off."""
        variant = self._rng.choice(self._variants)
        quantity = self._rng.choice([1, 1, 1, 2, 3, 7])
        price = catalogue.in_currency(variant.price_usd, order.market)
        discount = catalogue.rounded(price * quantity * discount_share, order.market)
        row = self._db.execute(
            "insert into order_lines (order_id, position, sku, quantity, unit_price, discount)"
            " values (%s, %s, %s, %s, %s, %s) returning id",
            [order.id, len(order.lines) + 1, variant.sku, quantity, price, discount],
        ).fetchone()
        order.lines.append(Line(int(row[0]) if row else 0, variant.sku, quantity, price, discount))
        order.discount += discount

    def store_sums(self, order: Order) -> None:
        """Bring the order's sums in line with its lines."""
        self._db.execute(
            "update orders set discount = %s, shipping = %s, tax = %s, total = %s, updated_at = clock_timestamp()"
            " where id = %s",
            [order.discount, order.shipping, order.tax, order.total, order.id],
        )
        order.touched = time.monotonic()

    def set_status(self, order: Order, status: str, stamp: str) -> None:
        """Move the order to a status, and stamp the column that goes with it."""
        self._db.execute(
            f"update orders set status = %s, {stamp} = clock_timestamp(), updated_at = clock_timestamp() where id = %s",
            [status, order.id],
        )
        order.status = status
        order.touched = time.monotonic()

    def request_refund(self, order: Order, reason: str, amount: Decimal) -> int:
        """Note a refund that somebody asked for. Returns its id."""
        row = self._db.execute(
            "insert into refunds (order_id, status, reason, amount) values (%s, 'requested', %s, %s) returning id",
            [order.id, reason, amount],
        ).fetchone()
        return int(row[0]) if row else 0

    def finish_refund(self, order: Order, refund: int, kind: str) -> None:
        """Pay a refund out; one in ten stays a request, which is no refund yet."""
        order.refunds += 1
        order.touched = time.monotonic()
        if self._rng.random() < 0.1:
            return  # it stays a request
        self._db.execute("update refunds set status = 'done', done_at = clock_timestamp() where id = %s", [refund])
        self.kind(order.number, kind)
