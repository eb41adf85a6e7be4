"""A mapping of Saleor's shape: amounts only on the refund's head, ids in base64, deleted variants, guests."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

from mapping_cases import load

from daemon.document.assemble import Assembler
from daemon.document.outcome import Oddity, Ready
from daemon.mapping.rows import StoredRow

SALEOR = """
version: 1
root: order_order
when: row.status not in ['draft', 'unconfirmed', 'expired']
sources:
  order_order:
    topic: saleor.public.order_order
    key: [id]
    one:
      user: {source: account_user, match: {id: user_id}}
      ship_to: {source: account_address, match: {id: shipping_address_id}}
    many:
      lines: {source: order_orderline, match: {order_id: id}, sort: [created_at, id]}
      granted:
        source: order_ordergrantedrefund
        match: {order_id: id}
        where: row.status == 'success'
        sort: created_at
  order_orderline:
    topic: saleor.public.order_orderline
    key: [id]
    one:
      variant: {source: product_productvariant, match: {id: variant_id}, on_change: ignore}
    let:
      product_key: coalesce(text(row.variant.product_id), row.product_sku, row.product_variant_id)
  order_ordergrantedrefund:
    topic: saleor.public.order_ordergrantedrefund
    key: [id]
    many:
      lines: {source: order_ordergrantedrefundline, match: {granted_refund_id: id}, sort: id}
    let:
      shipping: order.shipping_price_gross_amount if row.shipping_costs_included else 0
      shares: allocate(row.amount_value - row.shipping, row.lines, 'gross', row.currency)
  order_ordergrantedrefundline:
    topic: saleor.public.order_ordergrantedrefundline
    key: [id]
    one:
      line: {source: order_orderline, match: {id: order_line_id}}
    let: {gross: row.quantity * row.line.unit_price_gross_amount}
  account_user: {topic: saleor.public.account_user, key: [id]}
  account_address: {topic: saleor.public.account_address, key: [id]}
  product_productvariant: {topic: saleor.public.product_productvariant, key: [id]}
document:
  order_id: b64('Order:' ~ order.id)
  customer_id: coalesce(text(order.user_id), guest(order.user_email))
  time_of_purchase: iso(order.created_at)
  currency: order.currency
  purchase_total: order.total_gross_amount
  tax: order.total_gross_amount - order.total_net_amount
  shipping_cost: order.shipping_price_net_amount
  discount_amount: order.undiscounted_total_gross_amount - order.total_gross_amount
  discount_codes: "uniq([order.voucher_code] + col(order.lines, 'voucher_code'))"
  is_recurring_order: "'subscription_id' in (parse(order.metadata) or {})"
  customer_email: coalesce(order.user_email, order.user.email)
  customer_name: coalesce(words(order.ship_to.first_name, order.ship_to.last_name), order.user.first_name)
  customer_shipping_address:
    address1: order.ship_to.street_address_1
    zip: order.ship_to.postal_code
    country_code: alpha3(order.ship_to.country)
  products:
    for: {l: order.lines}
    item:
      id: l.product_key
      name: l.product_name
      quantity: l.quantity
      price: l.total_price_net_amount / l.quantity
  refunds:
    - for: {r: order.granted, rl: r.lines}
      item: &refund_line
        product_id: rl.line.product_key
        quantity: rl.quantity
        refund_amount: r.shares[rl]
        refund_made_at: iso(r.created_at)
    - for: {r: order.granted}
      when: r.shipping or not r.lines
      item:
        product_id: none
        quantity: 0
        refund_amount: r.shipping if r.lines else r.amount_value
        refund_made_at: iso(r.created_at)
"""


def line(key: str, sku: str, quantity: int, net: str, gross: str, variant: int | None) -> StoredRow:
    """An order line; `variant` None: the variant was deleted."""
    columns = {
        "id": key,
        "order_id": "o-1",
        "created_at": "2026-03-01T08:00:00Z",
        "product_name": f"Product {sku}",
        "product_sku": sku,
        "product_variant_id": f"UHJvZHVjdFZhcmlhbnQ6{sku}",
        "quantity": quantity,
        "total_price_net_amount": Decimal(net),
        "unit_price_gross_amount": Decimal(gross),
        "variant_id": variant,
        "voucher_code": "",
    }
    return StoredRow("order_orderline", key, "o-1", columns)


def granted(key: int, amount: str, day: int, status: str = "success", *, shipping: bool = False) -> StoredRow:
    """A granted refund."""
    columns: dict[str, Any] = {
        "id": key,
        "order_id": "o-1",
        "status": status,
        "amount_value": Decimal(amount),
        "currency": "USD",
        "shipping_costs_included": shipping,
        "created_at": f"2026-03-{day:02}T10:00:00Z",
    }
    return StoredRow("order_ordergrantedrefund", str(key), "o-1", columns)


def refund_line(key: int, refund: int, order_line: str, quantity: int) -> StoredRow:
    """A line of a granted refund."""
    columns = {"id": key, "granted_refund_id": refund, "order_line_id": order_line, "quantity": quantity}
    return StoredRow("order_ordergrantedrefundline", str(key), "o-1", columns)


def rows() -> list[StoredRow]:
    """An order of 110.00 with two lines, one variant gone; three refunds, one of them failed."""
    order = {
        "id": "o-1",
        "status": "fulfilled",
        "user_id": None,
        "user_email": "Ann+x@gmail.com",
        "shipping_address_id": 5,
        "created_at": "2026-03-01T07:30:00.123456Z",
        "currency": "USD",
        "total_gross_amount": Decimal("110.000"),
        "total_net_amount": Decimal("100.000"),
        "shipping_price_net_amount": Decimal("9.091"),
        "shipping_price_gross_amount": Decimal("10.000"),
        "undiscounted_total_gross_amount": Decimal("120.000"),
        "voucher_code": "SPRING",
        "metadata": '{"subscription_id": 1}',
    }
    address = {
        "id": 5,
        "first_name": "Ann",
        "last_name": "",
        "street_address_1": "Main St 1",
        "postal_code": "11111",
        "country": "US",
    }
    return [
        StoredRow("order_order", "o-1", "o-1", order),
        line("l-1", "A", 2, "36.364", "20.000", 71),
        line("l-2", "B", 1, "54.545", "60.000", None),
        granted(1, "70.000", 3, shipping=True),
        refund_line(1, 1, "l-1", 1),
        refund_line(2, 1, "l-2", 1),
        granted(2, "5.550", 4),
        granted(3, "99.000", 5, status="failure"),
        StoredRow("account_address", "5", None, address),
        StoredRow("product_productvariant", "71", None, {"id": 71, "product_id": 7}),
    ]


def test_saleor(tmp_path: Path) -> None:
    """The head's amount is shared over its lines, shipping and goodwill are spread, nothing is lost."""
    outcome = Assembler(load(tmp_path, SALEOR)).assemble("o-1", rows())
    assert isinstance(outcome, Ready), outcome
    order = json.loads(outcome.document.body, parse_float=Decimal)
    assert order["order_id"] == "T3JkZXI6by0x"
    assert order["customer_id"].startswith("guest_")
    assert order["time_of_purchase"] == "2026-03-01T07:30:00.123Z"
    assert order["customer_name"] == "Ann"
    assert order["is_recurring_order"] is True
    assert order["discount_codes"] == ["SPRING"]
    assert (order["tax"], order["shipping_cost"], order["discount_amount"]) == (10, Decimal("9.09"), 10)
    assert [(item["id"], item["price"]) for item in order["products"]] == [
        ("7", Decimal("18.182")),
        ("B", Decimal("54.545")),
    ]
    first, second = "2026-03-03T10:00:00Z", "2026-03-04T10:00:00Z"
    assert [
        (row["refund_made_at"], row["product_id"], row["quantity"], row["refund_amount"]) for row in order["refunds"]
    ] == [
        (first, "7", 1, Decimal("17.50")),  # 60 of the lines at 20 : 60 is 15, and 10 of shipping at 15 : 45 is 2.50
        (first, "B", 1, Decimal("52.50")),  # 45, and 7.50
        (second, "7", 0, Decimal("2.22")),
        (second, "B", 0, Decimal("3.33")),
    ]
    assert outcome.oddities == (Oddity.ADDRESS_PARTIAL, Oddity.REFUND_SPREAD, Oddity.REFUND_SPREAD)
