"""Laws of money and bytes: shares add up, equal rows give equal bytes, equal numbers have one form."""

from __future__ import annotations

import json
import tempfile
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st
from judges import bent, disagreement, outcomes
from mapping_cases import SHOP, assemble, line_row, load, refund_rows, shop_rows

from daemon.document.lines import settle_refunds
from daemon.document.order import canonical, document_of, validate, void_document
from daemon.document.outcome import Invalid, Oddity, Ready
from daemon.mapping.currencies import exact_sum, quantum, round_to, shares
from daemon.mapping.model import Policies
from daemon.mapping.rows import StoredRow
from daemon.mapping.times import format_time, parse_time, utc_text

AMOUNTS = st.decimals(-1_000_000, 1_000_000, places=4)
WEIGHTS = st.lists(st.decimals(0, 100_000, places=6), min_size=1, max_size=12)


def shop_mapping() -> Any:
    """The shop's mapping, loaded once."""
    with tempfile.TemporaryDirectory() as directory:
        return load(Path(directory), SHOP)


SHOP_MAPPING = shop_mapping()


@given(AMOUNTS, WEIGHTS, st.sampled_from([0, 2, 3]))
def test_shares_add_up_and_are_fair(amount: Decimal, weights: list[Decimal], digits: int) -> None:
    """The sum is the rounded amount, each share is within a minor unit of its exact part and has its sign."""
    parts = shares(amount, weights, digits)
    whole = round_to(amount, digits)
    assert exact_sum(parts) == whole
    total = sum(weights)
    for part, weight in zip(parts, weights, strict=True):
        exact = whole * weight / total if total else whole / len(weights)
        assert abs(part - exact) <= quantum(digits)
        assert part * whole >= 0
        assert part == round_to(part, digits)


@st.composite
def orders(draw: st.DrawFn) -> list[StoredRow]:
    """Order 1 with some lines and some refunds, with and without lines of their own."""
    rows = [row for row in shop_rows() if row.source != "lines"]
    lines = draw(st.integers(1, 5))
    skus, quantities = st.sampled_from(["A", "B", "C", "D"]), st.integers(1, 9)
    prices = st.decimals("0.01", 500, places=2)
    rows += [
        line_row(number, sku=draw(skus), quantity=draw(quantities), unit_price=draw(prices))
        for number in range(10, 10 + lines)
    ]
    if draw(st.booleans()):
        pairs = draw(st.lists(st.tuples(st.integers(10, 9 + lines), st.integers(1, 9)), max_size=4))
        rows += refund_rows(str(draw(st.decimals("0.01", 500, places=2))), pairs)
    return rows


@settings(max_examples=60, deadline=None)
@given(orders(), st.randoms(use_true_random=False))
def test_rows_in_any_order_give_the_same_bytes(rows: list[StoredRow], random: Any) -> None:
    """Neither the order in which rows are read nor extra rows change a byte."""
    first = assemble(SHOP_MAPPING, rows)
    assert isinstance(first, Ready)
    extra = StoredRow("lines", "900", "2", {"id": 900, "order_id": 2, "sku": "Z"})
    shuffled = [*rows, extra]
    random.shuffle(shuffled)
    second = assemble(SHOP_MAPPING, shuffled)
    assert isinstance(second, Ready)
    assert second == first


@settings(max_examples=60, deadline=None)
@given(orders())
def test_a_ready_order_keeps_its_money(rows: list[StoredRow]) -> None:
    """Whatever is merged, spread and clamped: refunds add up to what was refunded, and the document is valid."""
    outcome = assemble(SHOP_MAPPING, rows)
    assert isinstance(outcome, Ready)
    order = json.loads(outcome.document.body, parse_float=Decimal)
    refunded = sum((row.columns["amount"] for row in rows if row.source == "refunds"), Decimal(0))
    assert sum(row["refund_amount"] for row in order["refunds"]) == refunded
    assert sum(row["refund_cost"] for row in order["refunds"]) == refunded
    ordered = {item["id"]: item["quantity"] for item in order["products"]}
    for product in ordered:
        back = sum(row["quantity"] for row in order["refunds"] if row["product_id"] == product)
        assert back <= ordered[product]
    assert canonical(order) == outcome.document.body
    assert validate(order) == []
    void = void_document(outcome.document.body, "x")
    assert void_document(void.body, "x") == void


@given(st.decimals(0, 10**14, allow_nan=False, places=6), st.integers(0, 6))
def test_one_number_has_one_form(number: Decimal, zeros: int) -> None:
    """However many zeros a decimal carries, its bytes are the same, and read back they are the same number."""
    order = {"tax": number}
    padded = {"tax": number.quantize(Decimal(1).scaleb(-6 - zeros)) if number < 10**12 else number}
    assert canonical(order) == canonical(padded)
    assert json.loads(canonical(order), parse_float=Decimal, parse_int=Decimal)["tax"] == number
    assert b"E" not in canonical(order)


@given(
    st.datetimes(timezones=st.sampled_from([UTC, timezone(timedelta(hours=5, minutes=30))])),
    st.sampled_from(["auto", "seconds", "milliseconds", "microseconds"]),
    st.booleans(),
)
def test_a_time_is_cut_as_it_would_be_written(stamp: datetime, timespec: str, short: bool) -> None:
    """The text of a time in UTC that is cut short is the one that writing the time anew gives, and stays what it is."""
    text = stamp.isoformat(timespec=timespec)
    text = text.replace("+00:00", "Z") if short else text
    try:
        expected = format_time(parse_time(text))
    except OverflowError:
        reject()
    assert utc_text(text) == expected
    assert utc_text(expected) == expected


@pytest.mark.parametrize(
    "text", ["2026-02-30T00:00:00Z", "2026-03-01T24:00:00Z", "2026-03-01T08:60:00Z", "2026-03-01T08:00Z"]
)
def test_what_is_cut_is_a_time(text: str) -> None:
    """What looks like one is read as one first."""
    try:
        expected = format_time(parse_time(text))
    except ValueError:
        with pytest.raises(ValueError, match="ISO-8601"):
            utc_text(text)
    else:
        assert utc_text(text) == expected


@given(
    st.lists(
        st.fixed_dictionaries(
            {
                "product_id": st.sampled_from(["A", "B", "Z"]),
                "quantity": st.integers(0, 5).map(Decimal),
                "refund_amount": st.decimals(0, 50, places=2),
                "refund_made_at": st.sampled_from(["2026-03-01T00:00:00Z", "2026-03-02T00:00:00Z"]),
            }
        ),
        max_size=6,
    )
)
def test_settled_refunds_are_stable(rows: list[dict[str, Any]]) -> None:
    """Settling refunds a second time changes nothing, and no two rows are equal."""
    products = [
        {"id": "A", "quantity": Decimal(2), "price": Decimal(1)},
        {"id": "B", "quantity": Decimal(9), "price": Decimal(3)},
    ]
    first_oddities: list[Oddity] = []
    once = settle_refunds([dict(row) for row in rows], products, 2, Policies(), first_oddities)
    twice = settle_refunds([dict(row) for row in once], products, 2, Policies(), [])
    assert once == twice
    keys = [(row["product_id"], row["refund_made_at"]) for row in once]
    assert len(keys) == len(set(keys))


def test_the_sandbox_passes_whatever_is_sent() -> None:
    """10,000 random rows: every document that is made of them passes the contract as the sandbox reads it."""
    found = outcomes(SHOP_MAPPING, Random(7), 10_000)
    assert found["Ready"] > 100
    assert found["Invalid"] > 100


def test_the_sandbox_and_the_document_rules_agree() -> None:
    """Two transcriptions of one contract that share no code: what one refuses the other refuses."""
    lots = Random(7)
    told = [text for text in (disagreement(bent(lots)) for _ in range(1500)) if text is not None]
    assert told == []


ANYTHING = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.decimals(allow_nan=True),
    st.text(max_size=8),
    st.lists(st.integers(), max_size=2),
)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_no_row_breaks_the_assembler(data: st.DataObject) -> None:
    """Whatever the rows hold, the outcome is a value; what is ready is valid and has its order's id."""
    rows = shop_rows() + refund_rows()
    for index, row in enumerate(rows):
        names = st.sampled_from(sorted(row.columns))
        columns = {**row.columns, **data.draw(st.dictionaries(names, ANYTHING, max_size=2))}
        rows[index] = StoredRow(row.source, row.key, row.root, columns)
    outcome = assemble(SHOP_MAPPING, rows, final=True)
    if isinstance(outcome, Ready):
        order = json.loads(outcome.document.body, parse_float=Decimal)
        assert validate(order) == []
        assert document_of(order) == outcome.document
    elif isinstance(outcome, Invalid):
        assert outcome.problems
