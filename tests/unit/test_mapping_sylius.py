"""Refunds without a time: the shipped mapping of Sylius over rows that came live, and over rows of a snapshot."""

from __future__ import annotations

import json
from decimal import Decimal

import pytest
from shop_replay import MAPPINGS

from daemon.document.assemble import Assembler
from daemon.document.outcome import Ready
from daemon.mapping.loader import load_mapping
from daemon.mapping.rows import StoredRow
from daemon.mapping.times import parse_time

MEMOS = ("2026-03-02T10:00:00", "2026-03-09T10:00:00")


def _refunds(seen: tuple[str, ...], memos: tuple[str, ...]) -> list[tuple[str, Decimal, Decimal]]:
    """Time, pieces and money of each refund of an order of two pieces at 10.00; one came at each time of `seen`."""
    order = {
        "number": "7",
        "state": "new",
        "payment_state": "paid",
        "checkout_completed_at": "2026-03-01T09:00:00",
        "customer_id": 1,
        "created_by_guest": False,
        "shipping_address_id": None,
        "billing_address_id": None,
        "promotion_coupon_id": None,
        "currency_code": "USD",
        "total": 2000,
        "customer_ip": None,
    }
    line = {"variant_id": 3, "product_name": "Mug", "variant_name": None}
    line |= {"quantity": 2, "unit_price": 1000, "total": 2000}
    customer = {"email": "ann@example.com", "first_name": None, "last_name": None, "phone_number": None}
    rows = [
        StoredRow("sylius_order", "7", "7", {"id": 7, **order}),
        StoredRow("sylius_order_item", "70", "7", {"id": 70, "order_id": 7, **line}),
        StoredRow("sylius_customer", "1", None, {"id": 1, **customer}),
        StoredRow("sylius_product_variant", "3", None, {"id": 3, "code": "MUG"}),
    ]
    for number in (700, 701):
        unit = {"id": number, "order_item_id": 70, "adjustments_total": 0}
        rows.append(StoredRow("sylius_order_item_unit", str(number), "7", unit))
    for index, at in enumerate(seen):
        refund = {
            "id": index,
            "order_id": 7,
            "amount": 1000,
            "type": "order_item_unit",
            "refunded_unit_id": 700 + index,
        }
        came = int(parse_time(at).timestamp() * 1000)
        rows.append(StoredRow("sylius_refund_refund", str(index), "7", refund, first_seen_ms=came))
    rows += [
        StoredRow("sylius_refund_credit_memo", at, "7", {"id": at, "order_id": 7, "issued_at": at}) for at in memos
    ]
    mapping = load_mapping(MAPPINGS / "sylius.yaml")
    outcome = Assembler(mapping).assemble("7", rows)
    assert isinstance(outcome, Ready), outcome
    document = json.loads(outcome.document.body, parse_float=Decimal, parse_int=Decimal)
    return [(one["refund_made_at"], one["quantity"], one["refund_amount"]) for one in document["refunds"]]


@pytest.mark.parametrize(
    ("seen", "memos", "expected"),
    [
        pytest.param(
            ("2026-03-02T09:59:59.900Z", "2026-03-02T09:59:59.950Z"),
            MEMOS[:1],
            [("2026-03-02T10:00:00Z", 2, 20)],
            id="one credit memo dates all of its rows, which commit one by one",
        ),
        pytest.param(
            ("2026-03-02T09:59:59.900Z", "2026-03-09T09:59:59.900Z"),
            MEMOS,
            [("2026-03-02T09:59:59.900Z", 1, 10), ("2026-03-09T09:59:59.900Z", 1, 10)],
            id="with two a row's coming tells them apart",
        ),
        pytest.param(
            ("2026-06-01T00:00:00Z", "2026-06-01T00:00:00Z"),
            MEMOS,
            [("2026-03-09T10:00:00Z", 2, 20)],
            id="rows of a later snapshot are no younger than the last memo",
        ),
        pytest.param(
            ("2026-03-02T09:59:59.900Z",),
            (),
            [("2026-03-02T09:59:59.900Z", 1, 10)],
            id="the memo has not come yet",
        ),
    ],
)
def test_a_refund_without_a_time_is_dated(
    seen: tuple[str, ...], memos: tuple[str, ...], expected: list[tuple[str, int, int]]
) -> None:
    """By its credit memo, or by when its row came."""
    assert _refunds(seen, memos) == expected
