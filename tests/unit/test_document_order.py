"""The API's rules, canonical bytes, void documents, and the published schema as a second judge."""

from __future__ import annotations

import hashlib
import json
import re
from decimal import Decimal
from enum import StrEnum
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from daemon.document.order import canonical, document_of, validate, void_document

OPENAPI = Path(__file__).parents[3] / "shared" / "orders-api" / "openapi-v2.json"


def full_order() -> dict[str, Any]:
    """An order that uses every attribute, in the provider's own sums: 95.00 + 5.00 tax + 10.99 shipping."""
    return {
        "order_id": "abc-123",
        "customer_id": "def-456",
        "time_of_purchase": "2026-03-08T15:31:00Z",
        "currency": "USD",
        "purchase_total": Decimal("110.99"),
        "tax": Decimal("5.00"),
        "shipping_cost": Decimal("10.99"),
        "discount_amount": Decimal("10.00"),
        "discount_codes": ["SPRING"],
        "order_tags": ["Subscription First Order"],
        "is_recurring_order": False,
        "customer_email": "jane@example.com",
        "customer_phone_number": "+12125551234",
        "customer_name": "Jané Doe",
        "customer_ip_address": "192.0.2.7",
        "customer_shipping_address": {
            "address1": "123 Main St.",
            "address2": "Apt. 1A",
            "city": "Small town",
            "state": "CO",
            "zip": "11111",
            "country_code": "USA",
        },
        "products": [
            {
                "id": "prod-1",
                "name": "Our product",
                "quantity": 1,
                "price": Decimal("95.00"),
                "variant_id": "v-1",
                "variant_name": "Blue",
            }
        ],
        "refunds": [
            {
                "product_id": "prod-1",
                "variant_id": "v-1",
                "quantity": 1,
                "refund_amount": Decimal("95.00"),
                "refund_cost": Decimal("101.50"),
                "refund_made_at": "2026-03-10T10:00:00.250Z",
            }
        ],
        "alternate_order_ids": [{"type": "custom:erp", "id": "E-9"}],
    }


def changed(path: str, value: Any) -> dict[str, Any]:
    """The order with one value exchanged, or taken out with `...`."""
    order = full_order()
    target: Any = order
    *way, last = path.split("/")
    for step in way:
        target = target[int(step)] if step.isdigit() else target[step]
    if value is ...:
        del target[last]
    else:
        target[last] = value
    return order


def test_a_full_order_is_valid_and_its_bytes_are_fixed() -> None:
    """Every attribute passes; the bytes have fixed order, exact short numbers and plain UTF-8."""
    order = full_order()
    assert validate(order) == []
    expected = (
        '{"order_id":"abc-123","customer_id":"def-456","time_of_purchase":"2026-03-08T15:31:00Z","currency":"USD",'
        '"purchase_total":110.99,"tax":5,"shipping_cost":10.99,"discount_amount":10,"discount_codes":["SPRING"],'
        '"order_tags":["Subscription First Order"],"is_recurring_order":false,"customer_email":"jane@example.com",'
        '"customer_phone_number":"+12125551234","customer_name":"Jané Doe","customer_ip_address":"192.0.2.7",'
        '"customer_shipping_address":{"address1":"123 Main St.","address2":"Apt. 1A","city":"Small town","state":"CO",'
        '"zip":"11111","country_code":"USA"},"products":[{"id":"prod-1","name":"Our product","quantity":1,"price":95,'
        '"variant_id":"v-1","variant_name":"Blue"}],"refunds":[{"product_id":"prod-1","variant_id":"v-1","quantity":1,'
        '"refund_amount":95,"refund_cost":101.5,"refund_made_at":"2026-03-10T10:00:00.250Z"}],'
        '"alternate_order_ids":[{"type":"custom:erp","id":"E-9"}]}'
    ).encode()
    assert canonical(order) == expected
    assert canonical(dict(reversed(list(order.items())))) == expected
    document = document_of(order)
    assert (document.order_id, document.body, document.digest) == (
        "abc-123",
        expected,
        hashlib.sha256(expected).digest(),
    )


@pytest.mark.parametrize(
    ("number", "text"),
    [
        ("1.50", "1.5"),
        ("1.5", "1.5"),
        ("15E-1", "1.5"),
        ("1E+5", "100000"),
        ("0.00", "0"),
        ("-0.00", "0"),
        ("100", "100"),
        ("100.10", "100.1"),
        ("0.0000001", "0.0000001"),
        ("12345678901234.123456", "12345678901234.123456"),
    ],
)
def test_numbers_have_one_form(number: str, text: str) -> None:
    """Equal numbers give equal bytes: no exponent, no trailing zeros, no negative zero."""
    body = canonical(changed("tax", Decimal(number)))
    assert f'"tax":{text},'.encode() in body
    assert json.loads(body, parse_float=Decimal, parse_int=Decimal)["tax"] == Decimal(number)


def test_texts_are_escaped_as_json() -> None:
    """Quotes, control characters and other scripts survive the way through JSON."""
    name = 'A "quoted"\n\t\\ \x01 名前 🙂'
    body = canonical(changed("customer_name", name))
    assert json.loads(body)["customer_name"] == name
    assert "名前 🙂".encode() in body


BREACHES = [
    ("order_id", ..., "order_id: is required and has no value"),
    ("order_id", "", "order_id: must not be empty"),
    ("customer_id", 7, "customer_id: must be a text"),
    ("customer_id", StrEnum("Customer", {"A": "a-1"}).A, "customer_id: must be a text"),  # stored by its name
    ("shipping_cost", ..., "shipping_cost: is required"),
    ("tax", "5.00", "tax: must be a number"),
    ("tax", 5.0, "tax: must be a number"),
    ("tax", True, "tax: must be a number"),
    ("tax", Decimal("NaN"), "tax: must be a number"),
    ("tax", None, "tax: must be a number"),
    ("tax", Decimal("-0.01"), "tax: is negative"),
    ("purchase_total", 10**14 + 1, "purchase_total: is more than 10^14"),
    ("discount_amount", -1, "discount_amount: is negative"),
    ("currency", "BYN", "currency: is not a currency code that the API knows"),
    ("currency", "usd", "currency: is not a currency"),
    ("currency", "USDT", "currency: is not a currency"),
    ("customer_email", "", "customer_email: is not an e-mail address"),
    ("customer_email", "jo", "customer_email: is not an e-mail address"),
    ("customer_ip_address", "10.0.0.1/32", "customer_ip_address: is not an IP address"),
    ("hashed_customer_email", "0" * 64, "may not be sent together with customer_email"),
    ("hashed_customer_phone_number", "0" * 64, "may not be sent together with customer_phone_number"),
    ("order_tags", ["a", "a"], "order_tags: holds a text twice"),
    ("discount_codes", ["a", 1], "discount_codes: must be a list of texts"),
    ("is_recurring_order", 1, "is_recurring_order: must be true or false"),
    ("time_of_purchase", "2026-03-08T15:31:00", "time_of_purchase: must be an ISO-8601 time with an offset"),
    ("time_of_purchase", "2026-03-08", "time_of_purchase: must be an ISO-8601 time with an offset"),
    ("time_of_purchase", "now", "time_of_purchase: must be an ISO-8601 time with an offset"),
    ("status", "paid", "status: is not an attribute of the Orders API"),
    ("products", [], "products: must hold at least one product"),
    ("products", ..., "products: is required"),
    ("products", {}, "products: must be a list of objects"),
    ("products/0/name", "", "products[0].name: must not be empty"),
    ("products/0/price", Decimal(-1), "products[0].price: is negative"),
    ("products/0/quantity", ..., "products[0].quantity: is required"),
    ("products/0/sku", "x", "products[0].sku: is not an attribute"),
    ("products/0/variant_name", "", "products[0].variant_name: must not be empty"),
    ("refunds/0/refund_cost", ..., "refunds[0].refund_cost: is required"),
    ("refunds/0/refund_made_at", "2026-03-08", "refunds[0].refund_made_at: must be an ISO"),
    ("refunds", [full_order()["refunds"][0]] * 2, "refunds: holds two equal rows"),
    ("customer_shipping_address", [], "customer_shipping_address: must be an object"),
    ("customer_shipping_address/zip", ..., "customer_shipping_address.zip: is required"),
    ("customer_shipping_address/country_code", "US", "country_code: is not an upper-case ISO 3166 alpha-3 code"),
    ("customer_shipping_address/country_code", "XKX", "country_code: is not an upper-case"),
    ("customer_shipping_address/city", "", "customer_shipping_address.city: must not be empty"),
    ("alternate_order_ids/0/type", "", "alternate_order_ids[0].type: must not be empty"),
    ("customer_name", "\ud800", "customer_name: is not valid Unicode"),
]


@pytest.mark.parametrize(("path", "value", "expected"), BREACHES)
def test_rules(path: str, value: Any, expected: str) -> None:
    """Each rule of the API, and of what no document settles, is told by path and never by value."""
    found = validate(changed(path, value))
    assert any(expected in problem for problem in found), found


def test_allowed_edges() -> None:
    """Zeros, the largest number, empty address lines and empty lists are valid."""
    for path, value in (
        ("tax", 0),
        ("products/0/quantity", 0),
        ("purchase_total", 10**14),
        ("customer_shipping_address/address2", ""),
        ("refunds", []),
        ("order_tags", []),
        ("customer_ip_address", "2001:db8::1"),
    ):
        assert validate(changed(path, value)) == [], path


def test_a_void_has_zeros_and_the_tag() -> None:
    """All money and quantities are zero, refunds gone, the tag added; customer, time and address stay."""
    last = document_of(full_order())
    void = void_document(last.body, "Cancelled")
    order = json.loads(void.body)
    assert void.order_id == "abc-123"
    assert {order[name] for name in ("purchase_total", "tax", "shipping_cost", "discount_amount")} == {0}
    assert [(item["quantity"], item["price"]) for item in order["products"]] == [(0, 0)]
    assert order["refunds"] == []
    assert order["order_tags"] == ["Cancelled", "Subscription First Order"]
    same = ("customer_id", "time_of_purchase", "customer_shipping_address", "discount_codes", "customer_email")
    assert {name: order[name] for name in same} == {name: json.loads(last.body)[name] for name in same}
    assert validate(json.loads(void.body, parse_float=Decimal)) == []
    assert void.digest == hashlib.sha256(void.body).digest()


def test_voiding_twice_changes_nothing() -> None:
    """The void of a void is the same bytes."""
    void = void_document(canonical(full_order()), "Cancelled")
    assert void_document(void.body, "Cancelled") == void


def published_schema() -> dict[str, Any]:
    """The provider's schema of an order, with its text maxima made numbers."""
    text = OPENAPI.read_text().replace('"100_000_000_000_000"', "100000000000000")
    item: dict[str, Any] = json.loads(text)["components"]["schemas"]["Order"]["items"]
    return item


@pytest.mark.skipif(not OPENAPI.exists(), reason="the provider's published document is not beside the clone")
def test_the_published_schema_agrees() -> None:
    """What this module passes, the published schema passes; what the schema refuses, this module refuses."""
    validator = jsonschema.Draft202012Validator(published_schema())
    for order in (full_order(), json.loads(void_document(canonical(full_order()), "x").body)):
        assert list(validator.iter_errors(json.loads(canonical(order)))) == []
    for path, value, _ in BREACHES:
        order = changed(path, value)
        plain = json.loads(json.dumps(order, default=lambda number: float(number)))
        if list(validator.iter_errors(plain)):
            assert validate(order), path
    assert set(published_schema()["properties"]) == {
        *full_order(),
        "hashed_customer_email",
        "hashed_customer_phone_number",
    }
    assert re.search(published_schema()["properties"]["currency"]["pattern"], "xUSDT"), "why exact sets are compared"
