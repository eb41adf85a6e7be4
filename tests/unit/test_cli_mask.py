"""What `show` hides: by the name of a column or attribute, at any depth."""

from __future__ import annotations

from decimal import Decimal

import pytest

from daemon.cli.mask import MASKED, masked


@pytest.mark.parametrize(
    "name",
    [
        "email",
        "customer_email",
        "hashed_customer_email",
        "Phone",
        "last_name",
        "street_address_1",
        "customer_ip_address",
        "client_ip",
        "zip",
        "billing_postcode",
        "recipient",
    ],
)
def test_personal_names_are_masked(name: str) -> None:
    """Whatever the value's type; a null stays, so that what is missing can be seen."""
    assert masked({name: "x"}) == {name: MASKED}
    assert masked({name: 5}) == {name: MASKED}
    assert masked({name: None}) == {name: None}


def test_json_texts_are_masked_within() -> None:
    """A json column arrives as text: what is personal in it is hidden, its numbers keep their digits."""
    text = '{"total": 1.50, "e_mail": "jo@example.com", "to": [{"City": "Rome", "lines": null}]}'
    assert masked({"details": text}) == {"details": '{"total":1.50,"e_mail":"***","to":[{"City":"***","lines":null}]}'}
    for other in ('{"a": 1.50}', "{not json", "[1, 2]", "[" * 100_000):
        assert masked({"details": other}) == {"details": other}


@pytest.mark.parametrize("name", ["id", "total", "shipping_cost", "description", "zipped", "script", "currency"])
def test_other_names_are_not(name: str) -> None:
    """`ip` and `zip` count as whole words only."""
    assert masked({name: Decimal("1.50")}) == {name: Decimal("1.50")}


def test_everything_below_a_personal_name_is_masked() -> None:
    """An address is hidden whole, and so is a list of names; the shape stays."""
    document = {
        "order_id": "A-1",
        "customer_shipping_address": {"city": "Rome", "lines": ["1", {"floor": 2}]},
        "products": [{"id": "S", "name": "Shirt", "price": 1}],
    }
    assert masked(document) == {
        "order_id": "A-1",
        "customer_shipping_address": {"city": MASKED, "lines": [MASKED, {"floor": MASKED}]},
        "products": [{"id": "S", "name": MASKED, "price": 1}],
    }
