"""The provider's own sample, from rows to bytes: the examples of its published document, and the sums of its guide."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path

import pytest
from mapping_cases import load

from daemon.document.assemble import Assembler
from daemon.document.outcome import Outcome, Ready
from daemon.mapping.rows import StoredRow
from daemon.sandbox.contract import read

OPENAPI = Path(__file__).parents[3] / "shared" / "orders-api" / "openapi-v2.json"

MAPPING = """
version: 1
root: orders
sources:
  orders:
    topic: s.orders
    key: [id]
    many:
      lines: {source: lines, match: {order_id: id}}
  lines: {topic: s.lines, key: [id]}
document:
  order_id: order.id
  customer_id: order.customer_id
  time_of_purchase: iso(order.placed_at)
  currency: order.currency
  purchase_total: order.total
  tax: order.tax
  shipping_cost: order.shipping
  discount_amount: order.discount
  discount_codes: order.codes
  order_tags: order.tags
  is_recurring_order: order.recurring
  customer_email: order.email
  customer_phone_number: order.phone
  customer_name: order.name
  customer_ip_address: order.ip
  customer_shipping_address:
    address1: order.address1
    address2: order.address2
    city: order.city
    state: order.state
    zip: order.zip
    country_code: alpha3(order.country)
  products:
    for: {l: order.lines}
    item: {id: l.sku, name: l.name, quantity: l.quantity, price: l.price, variant_id: l.variant, variant_name: l.title}
"""

PUBLISHED = StoredRow(
    "orders",
    "abc-123",
    "abc-123",
    {
        "id": "abc-123",
        "customer_id": "def-456",
        "placed_at": "2022-03-08T01:23:45-08:00",
        "currency": "USD",
        "total": 10000,
        "tax": 1,
        "shipping": Decimal("10.99"),
        "discount": 10,
        "codes": ["Discount"],
        "tags": ["Special order"],
        "recurring": False,
        "email": "example@gmail.com",
        "phone": "1112223333",
        "name": "Jane Doe",
        "ip": "127.0.0.1",
        "address1": "123 Main St.",
        "address2": "Apt. 1A",
        "city": "Small town",
        "state": "CO",
        "zip": "11111",
        "country": "USA",
    },
)
PUBLISHED_LINE = StoredRow(
    "lines",
    "1",
    "abc-123",
    {
        "id": 1,
        "order_id": "abc-123",
        "sku": "prod-1",
        "name": "Our product",
        "quantity": 1,
        "price": 10011,
        "variant": "prod-variant-1",
        "title": "Our product variant",
    },
)
BYTES = (
    b'{"order_id":"abc-123","customer_id":"def-456","time_of_purchase":"2022-03-08T09:23:45Z","currency":"USD",'
    b'"purchase_total":10000,"tax":1,"shipping_cost":10.99,"discount_amount":10,"discount_codes":["Discount"],'
    b'"order_tags":["Special order"],"is_recurring_order":false,"customer_email":"example@gmail.com",'
    b'"customer_phone_number":"1112223333","customer_name":"Jane Doe","customer_ip_address":"127.0.0.1",'
    b'"customer_shipping_address":{"address1":"123 Main St.","address2":"Apt. 1A","city":"Small town","state":"CO",'
    b'"zip":"11111","country_code":"USA"},"products":[{"id":"prod-1","name":"Our product","quantity":1,"price":10011,'
    b'"variant_id":"prod-variant-1","variant_name":"Our product variant"}],"refunds":[]}'
)


def assembled(tmp_path: Path, *rows: StoredRow, hashed: bool = False) -> Outcome:
    """What these rows come to; `hashed`: with the two identities as hashes."""
    names = ("customer_email:", "customer_phone_number:")
    changes = [(name, f"hashed_{name}") for name in names] if hashed else []
    return Assembler(load(tmp_path, MAPPING, *changes)).assemble(rows[0].key, rows)


def test_the_published_example_to_the_byte(tmp_path: Path) -> None:
    """Each attribute's example of the published document, as one order; the time is the same moment in UTC."""
    outcome = assembled(tmp_path, PUBLISHED, PUBLISHED_LINE)
    assert isinstance(outcome, Ready)
    assert outcome.document.body == BYTES
    assert not read(b"[" + BYTES + b"]").problems


def test_the_published_example_hashed(tmp_path: Path) -> None:
    """The same with hashes: the sample's phone number is none that the provider's own function would hash."""
    outcome = assembled(tmp_path, PUBLISHED, PUBLISHED_LINE, hashed=True)
    assert isinstance(outcome, Ready)
    digest = b"264e53d93759bde067fd01ef2698f98d1253c730d12f021116f02eebcfa9ace6"
    raw = b'"customer_email":"example@gmail.com","customer_phone_number":"1112223333"'
    assert outcome.document.body == BYTES.replace(raw, b'"hashed_customer_email":"' + digest + b'"')
    assert outcome.oddities == ("phone_dropped", "sum_mismatch")


def test_the_sums_of_the_guide(tmp_path: Path) -> None:
    """1 x 95.00 after 10.00 off + 5.00 tax + 10.99 shipping = 110.99: nothing is odd about that."""
    head = {"total": Decimal("110.99"), "tax": Decimal("5.00"), "discount": Decimal("10.00")}
    order = StoredRow("orders", "abc-123", "abc-123", {**PUBLISHED.columns, **head})
    line = StoredRow("lines", "1", "abc-123", {**PUBLISHED_LINE.columns, "price": Decimal("95.00")})
    outcome = assembled(tmp_path, order, line)
    assert isinstance(outcome, Ready)
    assert outcome.oddities == ()
    assert b'"purchase_total":110.99,"tax":5,"shipping_cost":10.99,"discount_amount":10,' in outcome.document.body
    assert b'"price":95,' in outcome.document.body


@pytest.mark.skipif(not OPENAPI.exists(), reason="the provider's published document is not beside the clone")
def test_the_example_is_the_published_one() -> None:
    """Value by value, but for the time's zone and what has no example."""
    properties = json.loads(OPENAPI.read_text())["components"]["schemas"]["Order"]["items"]["properties"]
    order = json.loads(BYTES)
    pairs = [(properties[name], value) for name, value in order.items() if not isinstance(value, dict | list)]
    item = properties["products"]["items"]["properties"]
    pairs += [(item[name], value) for name, value in order["products"][0].items()]
    address = properties["customer_shipping_address"]["properties"]
    pairs += [(address[name], value) for name, value in order["customer_shipping_address"].items()]
    others = [value for about, value in pairs if value not in about["examples"]]
    assert others == ["2022-03-08T09:23:45Z"]
    assert order["discount_codes"] == properties["discount_codes"]["examples"]
