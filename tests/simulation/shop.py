"""The orders of a world: how they change, and what is true of them.

Every change writes rows and touches the order in one go, as a fold does. What an order comes to is told by the
assembler from the rows of now; whether the vendor takes it, by the sandbox's own reading of the contract.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from daemon.document.assemble import Assembler
from daemon.document.outcome import Outcome
from daemon.mapping.loader import load_mapping
from daemon.mapping.model import Mapping
from daemon.mapping.rows import StoredRow
from daemon.sandbox.contract import read
from daemon.state.schedule import Lane
from simulation.climate import OF_CHANGE, Climate, Fault

MAPPING = """
version: 1
root: orders
when: row.status != 'draft'
void: row.status == 'cancelled'
void_tag: Cancelled
on_delete: {on_delete}
on_leave: {on_leave}
sources:
  orders:
    topic: shop.orders
    key: [id]
    one:
      customer: {{source: customers, match: {{id: customer_id}}}}
    many:
      lines: {{source: order_lines, match: {{order_id: id}}, sort: id}}
  order_lines:
    topic: shop.order_lines
    key: [id]
  customers:
    topic: shop.customers
    key: [id]
document:
  order_id: row.number
  customer_id: "words('c', text(row.customer.id))"
  customer_name: {name}
  time_of_purchase: iso(row.placed_at)
  currency: row.currency
  purchase_total: row.total
  tax: "0"
  shipping_cost: "0"
  products:
    for: {{l: row.lines}}
    item: {{id: l.sku, variant_id: l.variant, name: l.sku, quantity: l.quantity, price: l.price}}
"""
NAMES = ("row.customer.name", "upper(row.customer.name)")
"""What the two versions of a mapping differ in."""

CRASHING = b'"CRASHES"'
PATIENT = "7"
"""The customer that has arrived; those of late parts arrive with them."""

_loaded: dict[tuple[str, str, int], Mapping] = {}


def mapping_of(directory: Path, on_delete: str, on_leave: str, version: int) -> Mapping:
    """One of the mappings; loaded once, as all worlds share them."""
    name = on_delete, on_leave, version
    if name not in _loaded:
        path = directory / f"{on_delete}-{on_leave}-{version}-{os.getpid()}.yaml"
        path.write_text(MAPPING.format(on_delete=on_delete, on_leave=on_leave, name=NAMES[version]), encoding="utf-8")
        _loaded[name] = load_mapping(path)
    return _loaded[name]


class Mirror(Protocol):
    """What ingest can do to the state."""

    def put_row(self, row: StoredRow) -> None:
        """The row as it is now."""
        ...

    def touch(self, key: str, lane: Lane) -> None:
        """The order changed: debounced, and due then."""
        ...


@dataclass(slots=True)
class Truth:
    """One order as the shop knows it. `touches` are the times of its changes."""

    key: str
    placed_at: str = "2026-03-01T08:00:00Z"
    status: str = "paid"
    total: int = 1
    sku: str = "S"
    doubled: bool = False
    customer: str = PATIENT
    lines: bool = True
    deleted: bool = False
    touches: list[float] = field(default_factory=list)
    lanes: list[Lane] = field(default_factory=list)
    ever_bad: bool = False
    ever_late: bool = False


class Shop:
    """All orders of a world. `now` is the world's time."""

    def __init__(
        self, climate: Climate, mirror: Mirror, now: Callable[[], float], happened: Callable[[Fault], None]
    ) -> None:
        self._climate = climate
        self._mirror = mirror
        self._now = now
        self._happened = happened
        self._lot = random.Random(f"{climate.seed} shop")
        self._customers = {PATIENT}
        self._pending: list[tuple[float, Callable[[], None]]] = []
        self.unread = False
        """Ingest has changes before it that it read once and is to read again: what comes now is behind them."""
        self.orders: dict[str, Truth] = {}
        self.rows: dict[tuple[str, str], StoredRow] = {}
        self.put("customers", PATIENT, None, {"id": int(PATIENT), "name": "Ada"})

    def put(self, source: str, key: str, root: str | None, columns: dict[str, Any], *, deleted: bool = False) -> None:
        """A row changes."""
        row = StoredRow(source, key, root, columns, deleted=deleted)
        self.rows[source, key] = row
        if not self.unread:
            self._mirror.put_row(row)

    # Changes

    def change(self) -> str:
        """Some order changes, or a new one comes; its key."""
        key = str(self._lot.randint(1, self._climate.orders))
        order = self.orders.setdefault(key, Truth(key))
        kinds = [fault for fault in OF_CHANGE if fault in self._climate.rates]
        weights = [self._climate.rates[fault] for fault in kinds]
        plain = max(1.0 - sum(weights), 0.2)
        self._apply(order, self._lot.choices([None, *kinds], [plain, *weights])[0])
        self.write(order, Lane.LIVE)
        return key

    def add(self, key: str, lane: Lane, *, total: int = 1, placed_at: float | None = None) -> None:
        """A plain new order, or a plain change of one that is there. `placed_at` is epoch seconds."""
        order = self.orders.setdefault(key, Truth(key))
        if placed_at is not None:
            order.placed_at = datetime.fromtimestamp(placed_at, UTC).isoformat(timespec="seconds")
        self._apply(order, None)
        order.total = total
        self.write(order, lane)

    def lose(self, key: str, kind: Fault, lane: Lane) -> None:
        """An order is gone, in one of the ways there are."""
        order = self.orders[key]
        self._apply(order, kind)
        self.write(order, lane)

    def _apply(self, order: Truth, kind: Fault | None) -> None:
        """What the order becomes. Whatever it was before, a plain change makes it a plain order again."""
        order.total = self._lot.randint(1, 3)
        order.status, order.sku, order.doubled, order.deleted, order.lines = "paid", "S", False, False, True
        order.customer = PATIENT
        if kind is not None:
            self._happened(kind)
        match kind:
            case Fault.REFUSED_ORDER:
                order.doubled = order.ever_bad = True
            case Fault.CRASHING_ORDER:
                order.sku, order.ever_bad = "CRASHES", True
            case Fault.CANCELLED:
                order.status = "cancelled"
            case Fault.INELIGIBLE:
                order.status = "draft"
            case Fault.DELETED:
                order.deleted = True
            case Fault.LATE_PART | Fault.MISSING_PART:
                late = kind is Fault.LATE_PART
                order.ever_late = True
                if self._lot.random() < 0.5:
                    order.customer = str(len(self._customers) + 100)
                    self._customers.add(order.customer)
                    arrive = self._arrival_of(order.customer)
                else:
                    order.lines = False
                    arrive = self._lines_of(order)
                if late:
                    patience = self._climate.delivery.waiting_max_secs
                    self._pending.append((self._now() + self._lot.uniform(0.5, 1.3 * patience), arrive))

    def _arrival_of(self, customer: str) -> Callable[[], None]:
        def arrive() -> None:
            self.put("customers", customer, None, {"id": int(customer), "name": "Eve"})
            for order in self.orders.values():
                if order.customer == customer:
                    self._touch(order, Lane.LIVE)

        return arrive

    def _lines_of(self, order: Truth) -> Callable[[], None]:
        def arrive() -> None:
            if not order.lines:
                order.lines = True
                self.write(order, Lane.LIVE)

        return arrive

    def arrive(self) -> None:
        """Parts whose time has come."""
        due = [one for one in self._pending if one[0] <= self._now()]
        self._pending = [one for one in self._pending if one[0] > self._now()]
        for _, arrival in due:
            arrival()

    @property
    def expects(self) -> bool:
        """Whether a part is still to come."""
        return bool(self._pending)

    def write(self, order: Truth, lane: Lane) -> None:
        """The order's rows as they are now, and its touch."""
        columns = {
            "id": order.key,
            "number": f"A-{order.key}",
            "status": order.status,
            "customer_id": int(order.customer),
            "placed_at": order.placed_at,
            "currency": "EUR",
            "total": order.total,
        }
        self.put("orders", order.key, order.key, columns, deleted=order.deleted)
        for variant, there in (("a", order.lines), ("b", order.lines and order.doubled)):
            line = {
                "id": f"{order.key}-{variant}",
                "order_id": order.key,
                "sku": order.sku,
                "variant": variant,
                "quantity": 1,
                "price": order.total,
            }
            name = ("order_lines", f"{order.key}-{variant}")
            if there or name in self.rows:
                self.put(*name, order.key, line, deleted=not there)
        self._touch(order, lane)

    def _touch(self, order: Truth, lane: Lane) -> None:
        order.touches.append(self._now())
        order.lanes.append(lane)
        if not self.unread:
            self._mirror.touch(order.key, lane)

    def read_again(self, since: float) -> None:
        """Ingest reads all that changed since then, the old and the new."""
        self.unread = False
        for row in self.rows.values():
            self._mirror.put_row(row)
        for order in self.orders.values():
            if order.touches[-1] > since:
                self._mirror.touch(order.key, order.lanes[-1])

    # What is true

    def outcome(self, key: str, mapping: Mapping, *, final: bool) -> Outcome:
        """What the order comes to by its rows of now."""
        rows = [row for row in self.rows.values() if row.root == key or row.root is None]
        return Assembler(mapping).assemble(key, rows, final=final)


def refused(body: bytes) -> bool:
    """Whether the vendor refuses an order with this document, by its contract."""
    return bool(read(b"[" + body + b"]", max_orders=1000, unique_product_ids=True).problems)


def crashes(body: bytes) -> bool:
    """Whether the vendor answers 5xx to whatever names this document."""
    return CRASHING in body
