"""From rows to outcome: what is ready, waiting, void or invalid, and what the engine does for every shop."""

from __future__ import annotations

import gc
import json
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from mapping_cases import SHOP, assemble, line_row, load, order_row, refund_rows, shop_rows, without

from daemon.document.assemble import Assembler
from daemon.document.outcome import (
    Deleted,
    Ineligible,
    Invalid,
    Oddity,
    Outcome,
    Ready,
    Voided,
    Waiting,
    WaitingReason,
)
from daemon.mapping.identity import sha256_hex
from daemon.mapping.model import Mapping
from daemon.mapping.rows import StoredRow, Wanted


@pytest.fixture
def shop(tmp_path: Path) -> Mapping:
    """The shop's mapping."""
    return load(tmp_path)


def order_of(outcome: Outcome) -> dict[str, Any]:
    """The order of a ready outcome."""
    assert isinstance(outcome, Ready), outcome
    order: dict[str, Any] = json.loads(outcome.document.body, parse_float=Decimal)
    return order


def oddities(outcome: Outcome) -> list[str]:
    """The oddities of a ready outcome."""
    assert isinstance(outcome, Ready), outcome
    return list(outcome.oddities)


def changed(rows: list[StoredRow], source: str, key: str, **columns: Any) -> list[StoredRow]:
    """The rows with columns of one exchanged; `...` takes a column out."""
    made = []
    for row in rows:
        if (row.source, row.key) == (source, key):
            values = {name: value for name, value in {**row.columns, **columns}.items() if value is not ...}
            row = replace(row, columns=values)
        made.append(row)
    return made


def test_a_ready_order(shop: Mapping) -> None:
    """The bytes of an order, to the last."""
    outcome = assemble(shop, shop_rows())
    assert isinstance(outcome, Ready)
    assert outcome.oddities == ()
    assert outcome.document.order_id == "R1"
    assert outcome.document.body.decode() == (
        '{"order_id":"R1","customer_id":"7","time_of_purchase":"2026-03-01T07:59:10.123Z","currency":"USD",'
        '"purchase_total":36.5,"tax":4,"shipping_cost":2.5,"discount_amount":0,"discount_codes":[],"order_tags":["web"],'
        '"customer_email":"jo@example.com","customer_phone_number":"+12125551234","customer_ip_address":"192.0.2.7",'
        '"customer_shipping_address":{"address1":"Main St 1","city":"Small Town","state":"CO","zip":"11111",'
        '"country_code":"USA"},"products":[{"id":"S11","name":"Blue thing","quantity":1,"price":10},'
        '{"id":"S12","name":"Thing 12","quantity":2,"price":10}],"refunds":[]}'
    )


def test_an_order_leaves_nothing_to_the_cyclic_collector(tmp_path: Path) -> None:
    """Its rows hold each other, there and back; whatever it comes to, they are gone with the outcome."""
    variant = "variant: {source: variants, match: {sku: sku}, required: false}"
    back = f"{variant}\n      head: {{source: orders, match: {{id: order_id}}}}"
    shop = load(tmp_path, SHOP, (variant, back), ("id: l.sku", "id: l.sku ~ l.head.number"))
    rows = [*shop_rows(), *refund_rows()]
    bent = [
        changed(rows, "orders", "1", **columns) for columns in ({"tax": ...}, {"tax": "x"}, {"status": "cancelled"})
    ]
    assembler = Assembler(shop)
    gc.collect()
    gc.disable()
    try:
        kinds = [type(assembler.assemble("1", one)) for one in (rows, *bent)]
        assert gc.collect() == 0
    finally:
        gc.enable()
    assert kinds == [Ready, Waiting, Invalid, Voided]


def test_needs_names_what_is_not_there_yet(shop: Mapping) -> None:
    """Look-ups of all rows, in steps, but only those that the document reads."""
    assembler = Assembler(shop)
    rows = shop_rows()
    assert assembler.needs(rows[:3]) == {
        Wanted("customers", "7"),
        Wanted("addresses", "9"),
        Wanted("variants", "S11"),
        Wanted("variants", "S12"),
    }
    assert assembler.needs(rows) == {Wanted("variants", "S12")}
    assert assembler.needs([order_row(customer_id=None, address_id=None)]) == set()
    assert assembler.needs([replace(rows[0], deleted=True)]) == set()


def test_needs_passes_over_unread_relations(tmp_path: Path) -> None:
    """A relation that no expression follows is not fetched."""
    mapping = load(tmp_path, SHOP, ("coalesce(l.variant.title, l.title)", "l.title"))
    assert Assembler(mapping).needs(shop_rows()[:2]) == {Wanted("customers", "7"), Wanted("addresses", "9")}


# unknown is not null


def test_no_root_row(shop: Mapping) -> None:
    """Children may come before their root: waiting, and invalid when the waiting is over."""
    rows = without(shop_rows(), "orders", "1")
    assert assemble(shop, rows) == Waiting(WaitingReason.NO_ROOT, "orders 1")
    final = assemble(shop, rows, final=True)
    assert isinstance(final, Invalid)
    assert "has never arrived" in final.problems[0]


def test_a_deleted_root(shop: Mapping) -> None:
    """The order is gone, whatever its children are."""
    rows = shop_rows()
    assert assemble(shop, [replace(rows[0], deleted=True, columns={}), *rows[1:]]) == Deleted()


def test_an_absent_row_holds_the_order_until_the_waiting_is_over(shop: Mapping) -> None:
    """A key that points at nothing yet is not a null key."""
    rows = without(shop_rows(), "addresses", "9")
    assert assemble(shop, rows) == Waiting(WaitingReason.ABSENT_ROW, "addresses 9, looked up by orders.ship_to")
    final = assemble(shop, rows, final=True)
    assert "customer_shipping_address" not in order_of(final)
    assert oddities(final) == [Oddity.LOOKUP_MISSING]


def test_a_null_key_or_a_deleted_row_is_missing_at_once(shop: Mapping) -> None:
    """Both give the empty row; nothing waits."""
    rows = shop_rows()
    null = changed(rows, "orders", "1", address_id=None)
    deleted = [replace(row, deleted=True) if row.source == "addresses" else row for row in rows]
    for case in (null, deleted):
        outcome = assemble(shop, case)
        assert "customer_shipping_address" not in order_of(outcome)
        assert oddities(outcome) == []


def test_a_relation_that_is_not_required_never_waits(shop: Mapping) -> None:
    """`required: false`: an absent row counts as missing at once."""
    rows = without(shop_rows(), "variants", "S11")
    assert order_of(assemble(shop, rows))["products"][0]["name"] == "Thing 11"


@pytest.mark.parametrize("kind", ["placeholder", "absent", "whole row"])
def test_an_unknown_value_holds_the_order(shop: Mapping, kind: str) -> None:
    """A TOAST placeholder without an earlier value, an absent column and an unreadable row are not null."""
    rows = shop_rows()
    if kind == "absent":
        rows = changed(rows, "orders", "1", total=...)
    else:
        unknown = frozenset({"total"} if kind == "placeholder" else {"*"})
        rows[0] = replace(rows[0], unknown=unknown)
    outcome = assemble(shop, rows)
    assert isinstance(outcome, Waiting)
    assert outcome.reason is WaitingReason.UNKNOWN_VALUE
    assert outcome.detail == ("orders.status of row 1" if kind == "whole row" else "orders.total of row 1")
    final = assemble(shop, rows, final=True)
    assert isinstance(final, Invalid)
    assert "its value has not been seen" in final.problems[0]


def test_an_unknown_value_that_nobody_reads_holds_nothing(shop: Mapping) -> None:
    """The guest's address is not read where the customer has one."""
    rows = changed(shop_rows(), "orders", "1", guest_email=..., note=None)
    assert order_of(assemble(shop, rows))["customer_email"] == "jo@example.com"


def test_a_default_says_what_an_absent_column_means(tmp_path: Path) -> None:
    """ADD COLUMN with a default never reports the rows that nobody touched; an unknown column stays unknown."""
    mapping = load(tmp_path, SHOP, ("topic: shop.orders", "topic: shop.orders\n    defaults: {discount: 1.5}"))
    rows = changed(shop_rows(), "orders", "1", discount=...)
    assert order_of(assemble(mapping, rows))["discount_amount"] == Decimal("1.5")
    rows[0] = replace(rows[0], unknown=frozenset({"discount"}))
    assert isinstance(assemble(mapping, rows), Waiting)


def test_an_order_without_lines_waits_then_is_invalid(shop: Mapping) -> None:
    """Lines come on their own topic; an order that never gets one is not sent."""
    rows = [row for row in shop_rows() if row.source != "lines"]
    assert assemble(shop, rows) == Waiting(WaitingReason.NO_PRODUCTS, "orders 1")
    final = assemble(shop, rows, final=True)
    assert isinstance(final, Invalid)
    assert final.problems == ("products: must hold at least one product",)


# eligible, void, invalid


def test_when_and_void(shop: Mapping) -> None:
    """A draft is no order, a cancelled one is void, and a cancelled order needs none of its parts for that."""
    assert assemble(shop, [order_row(status="draft")]) == Ineligible()
    assert assemble(shop, [order_row(status="cancelled")]) == Voided("Shop Cancelled")


def test_every_problem_of_an_order_is_told_with_its_place(shop: Mapping) -> None:
    """Faults and breaches name file, line, attribute and expression, and never a value of the row."""
    rows = changed(shop_rows(), "lines", "11", unit_price="secret")
    rows = changed(rows, "orders", "1", placed_at="secret")
    outcome = assemble(shop, rows)
    assert isinstance(outcome, Invalid)
    assert outcome.problems[0] == (
        "mapping.yaml:44:21: document.time_of_purchase: iso(order.placed_at): iso(stamp): not an ISO-8601 time"
    )
    assert "sources.lines.let.net" in outcome.problems[1]
    assert outcome.problems[1].endswith("(needed by document.products.price)")
    outcome = assemble(
        shop, changed(shop_rows(), "orders", "1", total=Decimal(-1), currency="BYN", number=None, tax="4")
    )
    assert isinstance(outcome, Invalid)
    told = "\n".join(outcome.problems)
    assert "mapping.yaml:42:13: order_id: order.number: is required and has no value" in told
    assert "purchase_total: order.total: is negative" in told
    assert "currency: order.currency: is not a currency code that the API knows" in told
    assert "tax: order.tax: must be a number, not text; declare `types: {column: numeric}`" in told
    assert "secret" not in told
    assert "BYN" not in told


# the engine's work


def test_money_is_rounded_to_the_currency(shop: Mapping) -> None:
    """Half-up to the minor unit; a price per unit keeps six decimals."""
    rows = changed(shop_rows(), "orders", "1", tax=Decimal("4.005"), currency="USD")
    rows = changed(rows, "lines", "12", quantity=3, unit_price=Decimal("3.3333333"))
    order = order_of(assemble(shop, rows))
    assert order["tax"] == Decimal("4.01")
    assert order["products"][1]["price"] == Decimal("3.333333")
    yen = order_of(assemble(shop, changed(shop_rows(), "orders", "1", currency="JPY", tax=Decimal("4.50"))))
    assert yen["tax"] == 5


def test_lines_of_one_product_are_merged(shop: Mapping) -> None:
    """Quantities add up, the price is what one piece cost on average, the first name and place stay."""
    rows = [*shop_rows(), line_row(13, sku="S12", quantity=1, unit_price=Decimal("14.00"), title="Other")]
    outcome = assemble(shop, rows)
    products = order_of(outcome)["products"]
    assert products[1] == {"id": "S12", "name": "Thing 12", "quantity": 3, "price": Decimal("11.333333")}
    assert len(products) == 2
    assert Oddity.PRODUCTS_MERGED in oddities(outcome)


def test_refund_of_lines(shop: Mapping) -> None:
    """The refund's amount is shared over its lines; cost is the amount; time is UTC."""
    rows = shop_rows() + refund_rows("10.00", [(11, 1), (12, 2)])
    assert order_of(assemble(shop, rows))["refunds"] == [
        {
            "product_id": "S11",
            "quantity": 1,
            "refund_amount": Decimal("3.33"),
            "refund_cost": Decimal("3.33"),
            "refund_made_at": "2026-03-02T07:00:00Z",
        },
        {
            "product_id": "S12",
            "quantity": 2,
            "refund_amount": Decimal("6.67"),
            "refund_cost": Decimal("6.67"),
            "refund_made_at": "2026-03-02T07:00:00Z",
        },
    ]


def test_a_refund_without_product_is_spread(shop: Mapping) -> None:
    """Pro rata by net amount, quantity 0, exact in sum."""
    outcome = assemble(shop, shop_rows() + refund_rows("5.00", []))
    refunds = order_of(outcome)["refunds"]
    assert [(row["product_id"], row["quantity"], row["refund_amount"]) for row in refunds] == [
        ("S11", 0, Decimal("1.67")),
        ("S12", 0, Decimal("3.33")),
    ]
    assert oddities(outcome) == [Oddity.REFUND_SPREAD]


def partial_refund(extra: str) -> list[StoredRow]:
    """A refund of 15.00 for one piece of S12, and shipping in the same refund that belongs to no line."""
    shipping = {"id": 6, "order_id": 1, "status": "done", "amount": Decimal(extra), "done_at": "2026-03-02T07:00:00Z"}
    return [*shop_rows(), *refund_rows("15.00", [(12, 1)]), StoredRow("refunds", "6", "1", shipping)]


def test_a_rest_goes_to_the_products_of_the_same_refund(shop: Mapping) -> None:
    """What a refund pays besides its lines (shipping, goodwill) is spread over the products that it names."""
    outcome = assemble(shop, partial_refund("4.99"))
    (row,) = order_of(outcome)["refunds"]
    assert (row["product_id"], row["quantity"], row["refund_amount"]) == ("S12", 1, Decimal("19.99"))
    assert oddities(outcome) == [Oddity.REFUND_SPREAD]


POLICIES = [
    ("largest_line", [("S12", 0, Decimal("5.00"))], Oddity.REFUND_SPREAD),
    ("drop", [], Oddity.REFUND_DROPPED),
]


@pytest.mark.parametrize(("policy", "expected", "oddity"), POLICIES)
def test_a_refund_without_product_as_the_mapping_says(
    tmp_path: Path, policy: str, expected: list[Any], oddity: Oddity
) -> None:
    """All of it onto the line that cost most, or left out and counted."""
    mapping = load(tmp_path, SHOP, ("root: orders", f"root: orders\nrefund_without_product: {policy}"))
    outcome = assemble(mapping, shop_rows() + refund_rows("5.00", []))
    refunds = order_of(outcome)["refunds"]
    assert [(row["product_id"], row["quantity"], row["refund_amount"]) for row in refunds] == expected
    assert oddities(outcome) == [oddity]


def test_one_refund_row_per_product(tmp_path: Path) -> None:
    """For a server that takes each product once: amounts and pieces add up, the latest time stays."""
    mapping = load(tmp_path, SHOP, ("root: orders", "root: orders\nmerge_refunds: product"))
    later = {"id": 6, "order_id": 1, "status": "done", "amount": Decimal(8), "done_at": "2026-03-02T07:00:00.500Z"}
    line = {"id": 70, "refund_id": 6, "line_id": 12, "quantity": 1}
    rows = [*shop_rows(), *refund_rows("10.00", [(12, 1)])]
    rows += [StoredRow("refunds", "6", "1", later), StoredRow("refund_lines", "70", "1", line)]
    (row,) = order_of(assemble(mapping, rows))["refunds"]
    assert row == {
        "product_id": "S12",
        "quantity": 2,
        "refund_amount": 18,
        "refund_cost": 18,
        "refund_made_at": "2026-03-02T07:00:00.500Z",
    }


def test_one_line_per_product(tmp_path: Path) -> None:
    """Variants under one product id are several lines, counted; or one, and their refunds one row."""
    variants = ("      id: l.sku\n", "      id: \"'P'\"\n      variant_id: l.sku\n")
    refunds = ("product_id: rl.line.sku", "product_id: \"'P'\"\n        variant_id: rl.line.sku")
    rows = shop_rows() + refund_rows("6.00", [(11, 1), (12, 1)])
    apart = assemble(load(tmp_path, SHOP, variants, refunds), rows)
    assert [item["variant_id"] for item in order_of(apart)["products"]] == ["S11", "S12"]
    assert oddities(apart) == [Oddity.PRODUCT_REPEATED]
    merged = assemble(
        load(tmp_path, SHOP, variants, refunds, ("root: orders", "root: orders\nmerge_products: id")), rows
    )
    (item,) = order_of(merged)["products"]
    assert (item["id"], item["variant_id"], item["quantity"], item["price"]) == ("P", "S11", 3, 10)
    (refund,) = order_of(merged)["refunds"]
    assert (refund["variant_id"], refund["quantity"], refund["refund_amount"]) == ("S11", 2, 6)
    assert oddities(merged) == [Oddity.PRODUCTS_MERGED]


def test_more_refunded_than_paid(shop: Mapping) -> None:
    """The money stays as it is, and the order is counted."""
    outcome = assemble(shop, shop_rows() + refund_rows("99.00", [(11, 1)]))
    assert order_of(outcome)["refunds"][0]["refund_amount"] == 99
    assert oddities(outcome) == [Oddity.REFUND_EXCEEDS_TOTAL]


@pytest.mark.parametrize(
    ("region", "country", "expected"),
    [("US", "GBR", None), ("GB", "USA", True), ("shipping_country", "GBR", True), ("shipping_country", "USA", None)],
)
def test_phone_region(tmp_path: Path, region: str, country: str, expected: object) -> None:
    """A national number is read as from the US, from another country, or from where the order is shipped to."""
    changes = (
        ("customer_phone_number:", "hashed_customer_phone_number:"),
        ("root: orders", f"root: orders\nphone_default_region: {region}"),
    )
    rows = changed(shop_rows(), "customers", "7", phone="020 7946 0958")
    rows = changed(rows, "addresses", "9", country=country)
    outcome = assemble(load(tmp_path, SHOP, *changes), rows)
    sent = order_of(outcome).get("hashed_customer_phone_number")
    assert sent == (sha256_hex("+442079460958") if expected else None)
    assert (Oddity.PHONE_DROPPED in oddities(outcome)) is (expected is None)


def test_tiny_refunds_leave_no_empty_rows(shop: Mapping) -> None:
    """A cent over two lines is one row."""
    refunds = order_of(assemble(shop, shop_rows() + refund_rows("0.01", [])))["refunds"]
    assert [(row["product_id"], row["refund_amount"]) for row in refunds] == [("S12", Decimal("0.01"))]
    assert order_of(assemble(shop, shop_rows() + refund_rows("0.00", [])))["refunds"] == []


def test_equal_refund_rows_are_merged_and_quantities_clamped(shop: Mapping) -> None:
    """Two rows of one product at one time are one; never more pieces than ordered, the money stays."""
    outcome = assemble(shop, shop_rows() + refund_rows("12.00", [(11, 1), (11, 1)]))
    (refund,) = order_of(outcome)["refunds"]
    assert (refund["quantity"], refund["refund_amount"]) == (1, 12)
    assert oddities(outcome) == [Oddity.REFUND_QUANTITY_CLAMPED]


def test_refund_of_an_unknown_product_is_sent_and_counted(tmp_path: Path) -> None:
    """A refund of something that is not in the order goes out as it is."""
    mapping = load(tmp_path, SHOP, ("product_id: rl.line.sku", "product_id: rl.line.sku ~ 'x'"))
    outcome = assemble(mapping, shop_rows() + refund_rows())
    assert order_of(outcome)["refunds"][0]["product_id"] == "S11x"
    assert oddities(outcome) == [Oddity.REFUND_PRODUCT_UNKNOWN]


def test_a_negative_refund_is_invalid(shop: Mapping) -> None:
    """The API's documents do not say what a negative amount means."""
    outcome = assemble(shop, shop_rows() + refund_rows("-5.00", []))
    assert isinstance(outcome, Invalid)
    assert "refunds[0].refund_amount" in outcome.problems[0]
    assert "is negative" in outcome.problems[0]


def test_unusable_contact_is_dropped_and_counted(shop: Mapping) -> None:
    """One bad optional field may sink the whole request: the field goes, the order stays."""
    rows = changed(shop_rows(), "customers", "7", email="not an address", phone="n/a")
    outcome = assemble(shop, changed(rows, "orders", "1", ip="10.0.0.0/8"))
    order = order_of(outcome)
    assert not {"customer_email", "customer_phone_number", "customer_ip_address"} & order.keys()
    assert oddities(outcome) == [Oddity.EMAIL_DROPPED, Oddity.PHONE_DROPPED, Oddity.IP_DROPPED]


def test_hashing(tmp_path: Path) -> None:
    """Raw values under the hashed attributes are normalised and hashed; what cannot be is dropped and counted."""
    mapping = load(
        tmp_path,
        SHOP,
        ("customer_email:", "hashed_customer_email:"),
        ("customer_phone_number:", "hashed_customer_phone_number:"),
    )
    order = order_of(assemble(mapping, changed(shop_rows(), "customers", "7", email="User+notes@pm.me")))
    assert order["hashed_customer_email"] == "d5080076cd5eb196ad2ed4d15dd93113fa810c17b51813d0bb5acc2b3f266ffc"
    assert order["hashed_customer_phone_number"] == "b7532e84c87df1f9f6bc4097cea3fa27db1b990bdc8d1211e59586349e5cce82"
    outcome = assemble(mapping, changed(shop_rows(), "customers", "7", email="a@b@c", phone="1112223333"))
    assert oddities(outcome) == [Oddity.EMAIL_DROPPED, Oddity.PHONE_DROPPED]


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ({"zip": None}, Oddity.ADDRESS_DROPPED),
        ({"zip": " "}, Oddity.ADDRESS_DROPPED),
        ({"country": "XK"}, Oddity.ADDRESS_DROPPED),
        ({"country": None}, Oddity.ADDRESS_DROPPED),
        ({"city": None}, Oddity.ADDRESS_PARTIAL),
        ({"state": ""}, Oddity.ADDRESS_PARTIAL),
    ],
)
def test_addresses(shop: Mapping, columns: dict[str, Any], expected: Oddity) -> None:
    """Sent with what it has where postal code and country are known, else not at all: never a guessed country."""
    outcome = assemble(shop, changed(shop_rows(), "addresses", "9", **columns))
    assert oddities(outcome) == [expected]
    address = order_of(outcome).get("customer_shipping_address")
    assert (address is None) == (expected is Oddity.ADDRESS_DROPPED)
    assert address is None or not columns.keys() & address.keys()


def test_codes_and_tags(tmp_path: Path) -> None:
    """Unique, without blanks, always in one order, always sent; a lone text is a list of one."""
    mapping = load(tmp_path, SHOP, ("\"['web']\"", "order.status"))
    rows = changed(shop_rows(), "orders", "1", codes=" b,a,,b ", status="paid")
    order = order_of(assemble(mapping, rows))
    assert order["discount_codes"] == ["a", "b"]
    assert order["order_tags"] == ["paid"]


def test_signs_and_sums(shop: Mapping) -> None:
    """A discount stored negative is sent positive; sums that do not add up are counted and sent."""
    outcome = assemble(shop, changed(shop_rows(), "orders", "1", discount=Decimal("-3.00"), total=Decimal("36.52")))
    assert order_of(outcome)["discount_amount"] == 3
    assert oddities(outcome) == [Oddity.DISCOUNT_SIGN], "a cent for each line is tolerated"
    assert oddities(assemble(shop, changed(shop_rows(), "orders", "1", total=Decimal("36.53")))) == [
        Oddity.SUM_MISMATCH
    ]


def test_time_offset_and_customer_id(tmp_path: Path) -> None:
    """The purchase is moved by a fixed time, whatever the day; an address as customer id is counted."""
    mapping = load(
        tmp_path,
        SHOP,
        ("root: orders", "root: orders\ntime_of_purchase_offset_secs: 120"),
        ("coalesce(text(order.customer_id), guest(order.guest_email))", "order.email"),
    )
    outcome = assemble(mapping, changed(shop_rows(), "orders", "1", placed_at="2025-12-31T23:59:00Z"))
    assert order_of(outcome)["time_of_purchase"] == "2026-01-01T00:01:00Z"
    assert oddities(outcome) == [Oddity.CUSTOMER_ID_IS_EMAIL]
    late = assemble(mapping, changed(shop_rows(), "orders", "1", placed_at="9999-12-31T23:59:00Z"))
    assert isinstance(late, Invalid)
    assert "outside the calendar" in late.problems[0]


def test_optional_attributes(tmp_path: Path) -> None:
    """Null and blank optionals are left out, numbers become texts, 0 and 1 become truth values."""
    mapping = load(
        tmp_path,
        SHOP,
        ("order_tags:", "is_recurring_order: order.renewal\n  customer_name: order.name\n  order_tags:"),
        ("order_id: order.number", "order_id: order.id"),
        ("quantity: l.quantity\n", "quantity: l.quantity\n      variant_id: l.id\n      variant_name: none\n"),
    )
    order = order_of(assemble(mapping, changed(shop_rows(), "orders", "1", renewal=1, name="  ")))
    assert order["order_id"] == "1"
    assert order["is_recurring_order"] is True
    assert "customer_name" not in order
    assert order["products"][0]["variant_id"] == "11"
    assert "variant_name" not in order["products"][0]


OFFSETS = {
    "text(90)": "must be whole seconds, at most 86400 either way",
    "1.5 if true else 0": "must be whole seconds",
    "total(order.lines, 'quantity') * 86400": "must be whole seconds",
    "order.lines + 1": "`+` needs numbers",
}


def test_time_offset_by_order(tmp_path: Path) -> None:
    """The offset is an expression over the order: web orders alone are moved, null moves nothing."""
    text = "120 if order.status == 'paid' else none"
    mapping = load(tmp_path, SHOP, ("root: orders", f"root: orders\ntime_of_purchase_offset_secs: {text}"))
    times = []
    for status in ("paid", "open"):
        rows = [order_row(status=status), *shop_rows()[1:]]
        times.append(order_of(assemble(mapping, rows))["time_of_purchase"])
    assert times == ["2026-03-01T08:01:10.123Z", "2026-03-01T07:59:10.123Z"]


@pytest.mark.parametrize("text", list(OFFSETS))
def test_an_offset_that_is_none(tmp_path: Path, text: str) -> None:
    """Whatever is no whole number of seconds makes the order invalid, with the place in the mapping."""
    mapping = load(tmp_path, SHOP, ("root: orders", f"root: orders\ntime_of_purchase_offset_secs: {text}"))
    outcome = assemble(mapping, shop_rows())
    assert isinstance(outcome, Invalid)
    (problem,) = outcome.problems
    assert "time_of_purchase_offset_secs" in problem
    assert OFFSETS[text] in problem


def test_only_live_rows_of_the_order_count(shop: Mapping) -> None:
    """A deleted line is gone; a row whose root is another order, or not known yet, is none of this order's."""
    rows = shop_rows()
    gone = [replace(row, deleted=True) if row.key == "12" else row for row in rows]
    assert [item["id"] for item in order_of(assemble(shop, gone))["products"]] == ["S11"]
    for root in ("2", None):
        moved = [replace(row, root=root) if row.key == "12" else row for row in rows]
        assert [item["id"] for item in order_of(assemble(shop, moved))["products"]] == ["S11"]


def test_quantities_are_clamped_over_all_refunds(shop: Mapping) -> None:
    """Two refunds at two times share the pieces that were ordered, the earlier row first."""
    later = {"id": 6, "order_id": 1, "status": "done", "amount": Decimal(8), "done_at": "2026-03-09T08:00:00Z"}
    line = {"id": 70, "refund_id": 6, "line_id": 12, "quantity": 2}
    rows = [
        *shop_rows(),
        *refund_rows("10.00", [(12, 1)]),
        StoredRow("refunds", "6", "1", later),
        StoredRow("refund_lines", "70", "1", line),
    ]
    outcome = assemble(shop, rows)
    assert [(row["quantity"], row["refund_amount"]) for row in order_of(outcome)["refunds"]] == [(1, 10), (1, 8)]
    assert oddities(outcome) == [Oddity.REFUND_QUANTITY_CLAMPED]


def test_order_is_for_a_destination_if_both_conditions_hold(tmp_path: Path) -> None:
    """The condition of all comes first, then the destination's own; the reason names the one that is false."""
    mapping = load(
        tmp_path, SHOP, ("root: orders", "root: orders\ndestinations: {eu: {when: row.number == 'A-1'}, us: {}}")
    )
    rows = shop_rows()
    assert isinstance(Assembler(mapping, "us").assemble("1", rows), Ready)
    own = Assembler(mapping, "eu").assemble("1", changed(rows, "orders", "1", number="A-2"))
    assert own == Ineligible("destinations.eu.when")
    assert Assembler(mapping, "eu").assemble("1", changed(rows, "orders", "1", number="A-1", status="draft")) == (
        Ineligible("when")
    )
