"""The demo shop at work: places, edits, ships, cancels, refunds and deletes orders in the OMS database.

It knows nothing of the daemon. What it does comes from a seeded generator; how far it gets depends on the clock.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from importlib.resources import files
from threading import Event

import psycopg

from daemon.demo.shop import catalogue
from daemon.demo.shop.counter import PRODUCTS, Counter
from daemon.demo.shop.model import Line, Order

REMEMBERED = 400  # orders the shop still works on

# How often each thing happens, in parts of the whole. Paying and shipping keep up with placing.
SHARES = {
    "place": 36.0,
    "pay": 28.0,
    "ship": 9.0,
    "edit_lines": 4.0,
    "refund_lines": 4.0,
    "refund_shipping": 3.0,
    "refund_goodwill": 3.0,
    "cancel_unpaid": 3.0,
    "cancel_paid": 3.0,
    "delete": 3.0,
    "reverse_payment": 1.0,
    "rename_customer": 1.0,
    "change_address": 1.0,
    "rename_product": 0.3,
}


class Shop:
    """Works on one OMS database over one connection in autocommit, which nothing else may use meanwhile.

    `settle_secs`: that long an order rests before it is cancelled or deleted after payment, so that it was sent before.
    """

    def __init__(self, connection: psycopg.Connection, *, seed: int = 1, settle_secs: float = 6.0) -> None:
        self._db = connection
        self._rng = random.Random(seed)
        self._counter = Counter(connection, self._rng)
        self._settle = settle_secs
        self._orders: list[Order] = []
        self._credit = dict.fromkeys(SHARES, 0.0)
        self.done = dict.fromkeys(SHARES, 0)

    def open(self, *, orders: int) -> None:
        """Create the tables, the catalogue, the customers and `orders` orders of the past year."""
        self._db.execute(files("daemon.demo.shop").joinpath("schema.sql").read_text(encoding="utf-8"))
        with self._db.transaction():
            self._counter.stock()
        for _ in range(orders):
            with self._db.transaction():
                self._past_order()

    def run(self, stop: Event, *, rate: float) -> None:
        """Do `rate` things a second until `stop` is set."""
        due = time.monotonic()
        for order in self._orders:
            order.touched = due
        while not stop.wait(max(0.0, due - time.monotonic())):
            self.act()
            due += 1 / rate

    def act(self) -> None:
        """Do the thing that is most overdue and can be done now."""
        for name, share in SHARES.items():
            self._credit[name] += share / sum(SHARES.values())
        for name in sorted(self._credit, key=lambda one: -self._credit[one]):
            action: Callable[[], bool] = getattr(self, f"_{name}")
            with self._db.transaction():
                happened = action()
            if happened:
                self._credit[name] -= 1
                self.done[name] += 1
                return

    def _pick(self, fits: Callable[[Order], bool], *, rested: bool = False) -> Order | None:
        latest = time.monotonic() - self._settle if rested else float("inf")
        found = [order for order in self._orders if order.touched <= latest and fits(order)]
        return self._rng.choice(found) if found else None

    # orders

    def _past_order(self) -> None:
        """An order of the past year in any of its later states; nobody was listening when it changed."""
        order = self._place_at(datetime.now(UTC) - timedelta(seconds=self._rng.uniform(86400, 365 * 86400)))
        fate = self._rng.random()
        if fate < 0.05:
            self._cancel_unpaid(order)
        elif fate < 0.95:
            self._pay(order)
            if fate > 0.85:
                self._counter.set_status(order, "cancelled", "cancelled_at")
                self._counter.kind(order.number, "cancelled before the start")
            elif fate > 0.30:
                self._ship(order)
            elif fate < 0.15:
                self._refund_lines(order)

    def _place(self) -> bool:
        self._place_at(datetime.now(UTC))
        return True

    def _place_at(self, placed: datetime) -> Order:
        order = self._counter.place(placed)
        self._orders.append(order)
        del self._orders[:-REMEMBERED]
        return order

    def _pay(self, order: Order | None = None) -> bool:
        order = order or self._pick(lambda one: one.status == "pending")
        if order is None or order.status != "pending":
            return False
        self._counter.set_status(order, "paid", "paid_at")
        self._db.execute(
            "insert into payments (order_id, method, amount, paid_at) values (%s, 'card', %s, clock_timestamp())",
            [order.id, order.total],
        )
        self._counter.kind(order.number, "paid")
        return True

    def _ship(self, order: Order | None = None) -> bool:
        """Shipped, and now the real cost of shipping is known."""
        order = order or self._pick(lambda one: one.status == "paid" and not one.refunds)
        if order is None or order.status != "paid":
            return False
        self._counter.set_status(order, "shipped", "shipped_at")
        order.shipping += order.market.unit * self._rng.randint(0, 300)
        self._counter.store_sums(order)
        self._counter.kind(order.number, "shipped")
        return True

    def _edit_lines(self) -> bool:
        order = self._pick(lambda one: one.status == "paid" and not one.refunds)
        if order is None:
            return False
        line = self._rng.choice(order.lines)
        what = self._rng.choice(["quantity", "add", "remove"])
        if what == "add" or (what == "remove" and len(order.lines) == 1):
            self._counter.add_line(order, Decimal(0))
        elif what == "remove":
            self._db.execute("delete from order_lines where id = %s", [line.id])
            order.lines.remove(line)
            order.discount -= line.discount
        else:
            line.quantity += 1
            self._db.execute("update order_lines set quantity = %s where id = %s", [line.quantity, line.id])
        self._counter.store_sums(order)
        order.edited = True
        self._counter.kind(order.number, "edited line")
        return True

    # refunds

    def _refund_lines(self, order: Order | None = None) -> bool:
        """Some of the goods come back; sometimes part of the shipping is given back with them."""
        order = order or self._pick(
            lambda one: one.refundable and any(one.refunded < one.quantity for one in one.lines)
        )
        if order is None:
            return False
        parts: list[tuple[Line, int, Decimal]] = []
        for line in self._rng.sample(order.lines, self._rng.randint(1, len(order.lines))):
            if line.refunded < line.quantity:
                quantity = self._rng.randint(1, line.quantity - line.refunded)
                parts.append((line, quantity, catalogue.rounded(line.net * quantity / line.quantity, order.market)))
        if not parts:
            return False
        amount = sum((part[2] for part in parts), Decimal(0))
        if self._rng.random() < 0.3:
            amount += catalogue.rounded(order.shipping / 2, order.market)
        refund = self._counter.request_refund(order, "returned", amount)
        for line, quantity, share in parts:
            line.refunded += quantity
            self._db.execute(
                "insert into refund_lines (refund_id, order_line_id, quantity, amount) values (%s, %s, %s, %s)",
                [refund, line.id, quantity, share],
            )
        self._counter.finish_refund(order, refund, "partial refund")
        return True

    def _refund_shipping(self) -> bool:
        order = self._pick(lambda one: one.refundable and one.shipping > 0 and not one.shipping_refunded)
        if order is None:
            return False
        order.shipping_refunded = True
        refund = self._counter.request_refund(order, "late delivery: shipping", order.shipping)
        self._counter.finish_refund(order, refund, "shipping-only refund")
        return True

    def _refund_goodwill(self) -> bool:
        """Money back for the order as a whole."""
        order = self._pick(lambda one: one.refundable)
        if order is None:
            return False
        refund = self._counter.request_refund(order, "goodwill", catalogue.rounded(order.total / 7, order.market))
        self._counter.finish_refund(order, refund, "order-level refund")
        return True

    # what ends an order

    def _cancel_unpaid(self, order: Order | None = None) -> bool:
        order = order or self._pick(lambda one: one.status == "pending")
        if order is None or order.status != "pending":
            return False
        self._counter.set_status(order, "cancelled", "cancelled_at")
        self._counter.kind(order.number, "cancelled before payment")
        return True

    def _cancel_paid(self) -> bool:
        order = self._pick(lambda one: one.plain, rested=True)
        if order is None:
            return False
        self._counter.set_status(order, "cancelled", "cancelled_at")
        self._counter.kind(order.number, "cancelled after payment")
        return True

    def _reverse_payment(self) -> bool:
        """A card payment was taken back: the order waits for money again."""
        order = self._pick(lambda one: one.plain, rested=True)
        if order is None:
            return False
        self._db.execute("update orders set status = 'pending', paid_at = null where id = %s", [order.id])
        self._counter.kind(order.number, "payment reversed")
        self._orders.remove(order)
        return True

    def _delete(self) -> bool:
        order = self._pick(lambda one: one.plain, rested=True)
        if order is None:
            return False
        self._db.execute("delete from orders where id = %s", [order.id])
        self._counter.kind(order.number, "deleted")
        self._orders.remove(order)
        return True

    # what many orders look up

    def _rename_customer(self) -> bool:
        self._db.execute(
            "update customers set name = %s, updated_at = clock_timestamp() where id = %s",
            [catalogue.person(self._rng), self._rng.choice(self._counter.customers).id],
        )
        return True

    def _change_address(self) -> bool:
        self._db.execute(
            "update addresses set address1 = %s, updated_at = clock_timestamp() where id = (select id from addresses"
            " where customer_id = %s order by id desc limit 1)",
            [f"{self._rng.randint(1, 999)} New Road", self._rng.choice(self._counter.customers).id],
        )
        return True

    def _rename_product(self) -> bool:
        self._db.execute(
            "update products set title = %s, updated_at = clock_timestamp() where id = %s",
            [catalogue.title(self._rng, self._rng.randint(100, 999)), self._rng.randint(1, PRODUCTS)],
        )
        return True
