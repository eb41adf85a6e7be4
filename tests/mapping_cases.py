"""A small shop for tests of mapping and document: its mapping file, its rows, and ways to bend both."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from pathlib import Path
from typing import Any

from daemon.document.assemble import Assembler
from daemon.document.outcome import Outcome
from daemon.mapping.loader import load_mapping
from daemon.mapping.model import Mapping
from daemon.mapping.rows import StoredRow

SHOP = """
version: 1
root: orders
when: row.status != 'draft'
void: row.status == 'cancelled'
void_tag: Shop Cancelled
sources:
  orders:
    topic: shop.orders
    key: [id]
    one:
      customer: {source: customers, match: {id: customer_id}}
      ship_to: {source: addresses, match: {id: address_id}}
    many:
      lines: {source: lines, match: {order_id: id}, sort: [position, id]}
      refunds: {source: refunds, match: {order_id: id}, where: row.status == 'done'}
    let:
      email: coalesce(row.customer.email, row.guest_email)
  lines:
    topic: shop.lines
    key: [id]
    one:
      variant: {source: variants, match: {sku: sku}, required: false}
    let:
      net: row.unit_price * row.quantity - row.discount
  refunds:
    topic: shop.refunds
    key: [id]
    many:
      lines: {source: refund_lines, match: {refund_id: id}}
    let:
      shares: allocate(row.amount, row.lines, 'quantity', order.currency)
  refund_lines:
    topic: shop.refund_lines
    key: [id]
    one:
      line: {source: lines, match: {id: line_id}}
  customers: {topic: shop.customers, key: [id]}
  addresses: {topic: shop.addresses, key: [id]}
  variants: {topic: shop.variants, key: [sku]}
document:
  order_id: order.number
  customer_id: coalesce(text(order.customer_id), guest(order.guest_email))
  time_of_purchase: iso(order.placed_at)
  currency: order.currency
  purchase_total: order.total
  tax: order.tax
  shipping_cost: order.shipping
  discount_amount: order.discount
  discount_codes: split(order.codes, ',')
  order_tags: "['web']"
  customer_email: order.email
  customer_phone_number: order.customer.phone
  customer_ip_address: order.ip
  customer_shipping_address:
    address1: order.ship_to.street
    city: order.ship_to.city
    state: order.ship_to.state
    zip: order.ship_to.zip
    country_code: alpha3(order.ship_to.country)
  products:
    for: {l: order.lines}
    item:
      id: l.sku
      name: coalesce(l.variant.title, l.title)
      quantity: l.quantity
      price: l.net / l.quantity
  refunds:
    - for: {r: order.refunds, rl: r.lines}
      item:
        product_id: rl.line.sku
        quantity: rl.quantity
        refund_amount: r.shares[rl]
        refund_made_at: iso(r.done_at)
    - for: {r: order.refunds}
      when: not r.lines
      item:
        product_id: none
        quantity: 0
        refund_amount: r.amount
        refund_made_at: iso(r.done_at)
"""


def load(directory: Path, text: str = SHOP, *changes: tuple[str, str]) -> Mapping:
    """The mapping of a text, with pieces of it exchanged. Every piece must be there."""
    for old, new in changes:
        assert old in text, old
        text = text.replace(old, new)
    path = directory / "mapping.yaml"
    path.write_text(text, encoding="utf-8")
    return load_mapping(path)


def order_row(**columns: Any) -> StoredRow:
    """The root row of order 1."""
    values = {
        "id": 1,
        "number": "R1",
        "status": "paid",
        "customer_id": 7,
        "guest_email": None,
        "address_id": 9,
        "placed_at": "2026-03-01T07:59:10.123Z",
        "currency": "USD",
        "total": Decimal("36.50"),
        "tax": Decimal("4.00"),
        "shipping": Decimal("2.50"),
        "discount": Decimal("0.00"),
        "codes": None,
        "ip": "192.0.2.7",
    }
    return StoredRow("orders", "1", "1", values | columns)


def line_row(number: int, **columns: Any) -> StoredRow:
    """A line of order 1: one piece at 10.00 each unless told otherwise."""
    values = {
        "id": number,
        "order_id": 1,
        "position": number,
        "sku": f"S{number}",
        "title": f"Thing {number}",
        "quantity": 1,
        "unit_price": Decimal("10.00"),
        "discount": Decimal(0),
    }
    return StoredRow("lines", str(number), "1", values | columns)


def shop_rows() -> list[StoredRow]:
    """Order 1 with two lines (10.00 and 20.00), its customer, address and one of two variants."""
    customer = {"id": 7, "email": "jo@example.com", "phone": "+12125551234"}
    address = {"id": 9, "street": "Main St 1", "city": "Small Town", "state": "CO", "zip": "11111", "country": "us"}
    return [
        order_row(),
        line_row(11),
        line_row(12, quantity=2),
        StoredRow("customers", "7", None, customer),
        StoredRow("addresses", "9", None, address),
        StoredRow("variants", "S11", None, {"sku": "S11", "title": "Blue thing"}),
    ]


def refund_rows(amount: str = "15.00", lines: Iterable[tuple[int, int]] = ((11, 1),)) -> list[StoredRow]:
    """A refund of order 1 over (line, quantity) pairs."""
    head = {"id": 5, "order_id": 1, "status": "done", "amount": Decimal(amount), "done_at": "2026-03-02T08:00:00+01:00"}
    rows = [StoredRow("refunds", "5", "1", head)]
    for index, (line, quantity) in enumerate(lines, start=60):
        columns = {"id": index, "refund_id": 5, "line_id": line, "quantity": quantity}
        rows.append(StoredRow("refund_lines", str(index), "1", columns))
    return rows


def assemble(mapping: Mapping, rows: Iterable[StoredRow], *, final: bool = False) -> Outcome:
    """What order 1 comes to."""
    return Assembler(mapping).assemble("1", rows, final=final)


def without(rows: list[StoredRow], source: str, key: str) -> list[StoredRow]:
    """The rows but for one."""
    kept = [row for row in rows if (row.source, row.key) != (source, key)]
    assert len(kept) == len(rows) - 1
    return kept
