"""The demo's comparison finds what differs, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

import pytest

from daemon.demo.compare import Difference, Expectation, Expected, differences, report

DOCUMENT: dict[str, Any] = {
    "order_id": "S-1",
    "purchase_total": Decimal("10.50"),
    "order_tags": ["web", "gift"],
    "is_recurring_order": False,
    "products": [
        {"id": "A", "name": "a", "quantity": 1, "price": Decimal("4.5")},
        {"id": "B", "name": "b", "quantity": 2, "price": 3},
    ],
    "refunds": [],
}
VOID: dict[str, Any] = {
    **DOCUMENT,
    "purchase_total": 0,
    "order_tags": ["Cancelled", "gift", "web"],
    "products": [{**product, "quantity": 0, "price": 0} for product in DOCUMENT["products"]],
}
VOID_BY_OMS = {
    "order_id": "S-1",
    "purchase_total": 0,
    "refunds": [],
}


def _found(
    expectation: Expectation,
    document: Mapping[str, Any],
    held: Mapping[str, Any] | None,
    before: Sequence[dict[str, Any]] = (DOCUMENT,),
) -> list[Difference]:
    return differences(
        [Expected("S-1", expectation, document)],
        {} if held is None else {"S-1": held},
        before_void=lambda _: before,
        void_tag="Cancelled",
    )


def test_equal_values_in_another_form_are_no_difference() -> None:
    """Trailing zeros, and the order of lists that have no order, do not count."""
    held = {
        **DOCUMENT,
        "purchase_total": Decimal("10.5"),
        "order_tags": ["gift", "web"],
        "products": list(reversed(DOCUMENT["products"])),
    }
    assert _found(Expectation.DOCUMENT, DOCUMENT, held) == []


@pytest.mark.parametrize(
    ("attribute", "value"),
    [
        ("purchase_total", Decimal("10.51")),
        ("purchase_total", None),
        ("is_recurring_order", 0),
        ("order_tags", ["web"]),
        ("products", [DOCUMENT["products"][0]]),
        ("refunds", [{"product_id": "A"}]),
        ("customer_email", "somebody@example.com"),
    ],
)
def test_one_doctored_attribute_is_one_difference(attribute: str, value: object) -> None:
    """A changed, missing or additional attribute is found, and named."""
    found = _found(Expectation.DOCUMENT, DOCUMENT, {**DOCUMENT, attribute: value})
    assert [(one.order_id, one.attribute) for one in found] == [("S-1", attribute)]


@pytest.mark.parametrize(
    ("expectation", "held", "count"),
    [
        (Expectation.DOCUMENT, None, 1),
        (Expectation.ABSENT, DOCUMENT, 1),
        (Expectation.ABSENT, None, 0),
        (Expectation.VOID, None, 0),
    ],
)
def test_presence(expectation: Expectation, held: Mapping[str, Any] | None, count: int) -> None:
    """An order that lacks, and one that should not be there, is one difference each; a void never sent is none."""
    assert len(_found(expectation, DOCUMENT, held)) == count


def test_an_order_unknown_to_the_oms_is_a_difference() -> None:
    """The API must hold nothing that the OMS never had."""
    found = differences([], {"S-1": DOCUMENT}, before_void=lambda _: (), void_tag="Cancelled")
    assert [one.attribute for one in found] == ["order"]


def test_a_void_keeps_what_was_sent_before_but_for_the_money() -> None:
    """A right void has no difference; one that was never sent as an order has one."""
    assert _found(Expectation.VOID, VOID_BY_OMS, VOID) == []
    assert len(_found(Expectation.VOID, VOID_BY_OMS, VOID, before=())) == 1


def test_a_void_may_keep_an_older_version_than_the_api_has() -> None:
    """The daemon was killed before it heard that the newer one was accepted."""
    newer = {**DOCUMENT, "order_tags": ["later"]}
    assert _found(Expectation.VOID, VOID_BY_OMS, VOID, before=(newer, DOCUMENT)) == []
    assert len(_found(Expectation.VOID, VOID_BY_OMS, VOID, before=(newer,))) == 1


@pytest.mark.parametrize(
    "change",
    [{"purchase_total": 1}, {"order_tags": ["web", "gift"]}, {"is_recurring_order": True}, {"products": []}],
)
def test_a_doctored_void_is_one_difference(change: dict[str, Any]) -> None:
    """Money left, the tag missing, or anything else changed by the void is found."""
    assert len(_found(Expectation.VOID, VOID_BY_OMS, {**VOID, **change})) == 1


@pytest.mark.parametrize(("orders", "count", "status"), [(5, 0, 0), (5, 2, 1), (0, 0, 1)])
def test_the_last_line_is_the_verdict(orders: int, count: int, status: int) -> None:
    """Only orders without a difference pass, and no order at all does not."""
    said: list[str] = []
    found = [Difference("S-1", "tax", 1, 2)] * count
    assert report(orders, found, {"guest": 3}, said.append) == status
    assert said[-1] == f"demo: {orders} orders, {count} differences"
