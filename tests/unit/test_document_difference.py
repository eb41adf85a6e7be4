"""Where two documents differ: by meaning, not by spelling."""

from __future__ import annotations

from typing import Any

import pytest

from daemon.document.difference import differences, parsed

BASE = (
    '{"order_id":"A","time_of_purchase":"2026-03-01T08:00:00Z","purchase_total":10.50,"tax":0,"order_tags":["b","a"],'
    '"customer_shipping_address":{"zip":"1","country_code":"DEU"},"products":[{"id":"x","price":1,"quantity":2},'
    '{"id":"y","variant_id":"v","price":2,"quantity":1}],"refunds":[]}'
)


def changed(*changes: tuple[str, str]) -> dict[str, Any]:
    """The document with pieces exchanged."""
    text = BASE
    for old, new in changes:
        assert old in text, old
        text = text.replace(old, new)
    return parsed(text)


@pytest.mark.parametrize(
    "changes",
    [
        (),
        (("10.50", "10.5"),),
        (("10.50", '"10.500"'),),
        (('"tax":0', '"tax":-0.00'),),
        (('"tax":0', '"tax":"0.0"'),),
        (('"tax":0,', ""),),
        (("08:00:00Z", "09:00:00+01:00"),),
        (("08:00:00Z", "08:00:00.000"),),
        (('"order_id"', '"discount_amount":0.00,"is_recurring_order":false,"order_id"'),),
        (('["b","a"]', '["a","b"]'),),
        ((',"refunds":[]', ""),),
        (('"refunds":[]', '"refunds":null'),),
        (('"order_id"', '"is_cancelled":false,"updated_at":"x","customer_name":null,"order_id"'),),
        (
            ('{"id":"x","price":1,"quantity":2},', ""),
            ('"quantity":1}', '"quantity":1},{"id":"x","quantity":2,"price":1.0}'),
        ),
    ],
)
def test_what_means_the_same_is_no_difference(changes: tuple[tuple[str, str], ...]) -> None:
    """Either way round."""
    assert differences(parsed(BASE), changed(*changes)) == {}
    assert differences(changed(*changes), parsed(BASE)) == {}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (("10.50", "10.51"), {"purchase_total"}),
        (("08:00:00Z", "08:00:01Z"), {"time_of_purchase"}),
        (('"a"]', '"c"]'), {"order_tags"}),
        (('"zip":"1"', '"zip":"2"'), {"customer_shipping_address.zip"}),
        (('"price":2', '"price":3'), {"products.price"}),
        (('"variant_id":"v"', '"variant_id":"w"'), {"products"}),
        (('{"id":"x","price":1,"quantity":2},', ""), {"products"}),
        (('"tax":0', '"tax":"nothing"'), {"tax"}),
        (('"order_id"', '"customer_name":"Ada","order_id"'), {"customer_name"}),
        (("[]", '[{"product_id":"x","quantity":0,"refund_amount":1}]'), {"refunds"}),
    ],
)
def test_what_means_something_else_is_named(change: tuple[str, str], expected: set[str]) -> None:
    """By attribute; parts of items only where the items are the same ones."""
    assert set(differences(parsed(BASE), changed(change))) == expected
    assert set(differences(changed(change), parsed(BASE))) == expected


def test_both_values_are_told() -> None:
    """The value of the one and of the other; of list items all of them."""
    found = differences(parsed(BASE), changed(("10.50", "11"), ('"price":2', '"price":3'), ('"zip":"1"', '"zip":"2"')))
    assert found == {
        "purchase_total": (parsed("10.50"), 11),
        "customer_shipping_address.zip": ("1", "2"),
        "products.price": ([1, 2], [1, 3]),
    }
