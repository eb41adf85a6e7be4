"""What a mapping reads of which columns, and for what."""

from __future__ import annotations

from pathlib import Path

from daemon.mapping.erasure import ERASED, Eraser, mark_of
from daemon.mapping.loader import load_mapping
from daemon.mapping.model import Mapping
from daemon.mapping.rows import StoredRow

TEXT = """
version: 1
root: orders
when: row.kind != 'draft'
sources:
  orders:
    topic: t.orders
    key: [id]
    one:
      customer: {source: customers, match: {id: customer_id}}
    many:
      lines: {source: lines, match: {order_id: id}, where: row.kept, sort: place}
    let:
      mail: coalesce(row.customer.mail, row["mail"])
  lines: {topic: t.lines, key: [id]}
  customers:
    topic: t.customers
    key: [id]
    one: {country: {source: countries, match: {code: country}}}
  countries: {topic: t.countries, key: [code]}
document:
  order_id: row.number
  customer_id: "coalesce('b2b_' ~ row.company if row.kind == 'b2b' else none, text(row.customer_id), guest(row.mail))"
  time_of_purchase: iso(row.at)
  currency: row.currency
  purchase_total: row.total
  tax: 0
  shipping_cost: 0
  order_tags: "[parse(row.details).tag, row.customer.stage, 'Staff' if row.mail == 'a@b.c' else none]"
  customer_email: row.mail
  customer_name: row.customer.name
  customer_shipping_address: {zip: row.zip, country_code: row.customer.country.alpha3}
  products:
    for: {l: row.lines}
    item: {id: l.sku, name: l.product_name, quantity: l.quantity, price: l.price}
"""


def loaded(directory: Path, text: str = TEXT) -> Mapping:
    """The mapping of this text."""
    path = directory / "mapping.yaml"
    path.write_text(text, encoding="utf-8")
    return load_mapping(path)


def test_columns_are_told_apart_by_what_reads_them(tmp_path: Path) -> None:
    """Over derived columns, filters and sorts; what only the customer's attributes read is not kept."""
    uses = loaded(tmp_path).uses
    assert uses.kept["orders"] >= {"id", "number", "customer_id", "kind", "total", "currency", "at", "details", "mail"}
    assert not uses.kept["orders"] & {"zip", "company"}
    assert uses.kept["lines"] >= {"sku", "product_name", "quantity", "price", "kept", "place", "order_id"}
    assert "name" not in uses.kept["customers"]
    assert "stage" in uses.kept["customers"]
    assert uses.people == {"orders", "customers"}  # a country is nobody's own
    assert ("customers", "mail") in uses.telling
    assert ("orders", "number") in uses.order_id


def eraser(tmp_path: Path, text: str = TEXT) -> Eraser:
    """An eraser of such a mapping."""
    return Eraser(loaded(tmp_path, text), "a key")


ROW = {
    "id": 1,
    "number": "N-1",
    "customer_id": 7,
    "kind": "b2b",
    "company": "Lovelace Ltd",
    "mail": "ada@example.com",
    "zip": "10115",
    "at": "2026-03-01T08:00:00Z",
    "currency": "EUR",
    "total": 10,
    "details": '{"tag": "gift", "rate": 1.50, "email": "ada@example.com"}',
    "note": "ring twice",
}


def test_a_column_that_decides_is_no_column_that_tells(tmp_path: Path) -> None:
    """The kind of an order stays, though its customer's id depends on it; the company whose name the id is does not."""
    one = eraser(tmp_path)
    assert one.carriers(StoredRow("orders", "1", "1", ROW)) == {"company"}
    assert one.carriers(StoredRow("orders", "1", "1", {**ROW, "kind": "shop"})) == {"customer_id"}
    assert one.carriers(StoredRow("orders", "1", "1", {**ROW, "kind": "shop", "customer_id": None})) == {"mail"}


def test_what_is_left_of_a_row(tmp_path: Path) -> None:
    """Money and conditions; JSON without its personal members, its numbers as they were; the rest is null."""
    one = eraser(tmp_path)
    customer = one.customer("7")
    left = one.blanked("orders", {**ROW, "kind": "shop"}, customer, {"customer_id"})
    kept = ("id", "number", "kind", "at", "currency", "total")
    assert {name: left[name] for name in kept} == {name: {**ROW, "kind": "shop"}[name] for name in kept}
    assert (left["zip"], left["company"], left["note"]) == (None, None, None)
    assert left["details"] == '{"tag":"gift","rate":1.50,"email":null}'
    assert left["customer_id"] == one.stand_in(7) != 7
    assert left["mail"].startswith("erased_")
    assert left[ERASED] == mark_of(customer)
    assert one.blanked("orders", left, customer, {"customer_id"}) == left  # again changes nothing


def test_a_stand_in_is_of_the_same_kind_and_the_same_everywhere(tmp_path: Path) -> None:
    """So keys still meet the columns that lead to them."""
    one = eraser(tmp_path)
    assert isinstance(one.stand_in(7), int)
    assert str(one.stand_in(7)) == one.stand_in("7")
    assert one.stand_in("6f1c-7") == one.stand_in("6f1c-7") != one.stand_in("6f1c-8")
    assert one.stand_in([7]) is None
    assert Eraser(loaded(tmp_path), "another key").stand_in(7) != one.stand_in(7)


def test_what_a_hook_may_read_goes_by_its_name(tmp_path: Path) -> None:
    """A hook's reads cannot be seen: only what is personal by name, or read as such, is taken."""
    (tmp_path / "hooks.py").write_text("def after(document, order):\n    return document\n")
    one = eraser(tmp_path, TEXT + "hooks: hooks.py\n")
    left = one.blanked("orders", {**ROW, "loyalty": 3, "billing_street": "1 Main St"}, one.customer("7"))
    assert (left["loyalty"], left["billing_street"], left["zip"]) == (3, None, None)
