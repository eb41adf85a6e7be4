"""Product lines and refund rows put into the form that the strictest reading of the API accepts.

A row that lacks a value it needs is passed on as it is: validation names it.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from daemon.document.outcome import Oddity
from daemon.mapping.currencies import exact_sum, round_to, shares
from daemon.mapping.model import Policies, Unplaced
from daemon.mapping.operators import EXACT
from daemon.mapping.times import parse_time

Line = dict[str, Any]
Product = tuple[Any, Any]
"""Id and variant."""

_MONEY = ("refund_amount", "refund_cost")


def net(line: Line) -> Decimal:
    """Price x quantity, exact. Raises KeyError where one is missing."""
    return EXACT.multiply(line["price"], line["quantity"])


def _product(line: Line) -> Product:
    return line.get("id"), line.get("variant_id")


def _refunded(row: Line) -> Product:
    return row.get("product_id"), row.get("variant_id")


def merge_products(lines: list[Line], policies: Policies, oddities: list[Oddity]) -> list[Line]:
    """One line per product and variant (or per product, as the policy says): quantities summed, price = sum of
    price x quantity / quantity, name and variant of the first.

    The API may refuse a product that is listed twice; whether it does is not documented.
    """
    merged: dict[Product, list[Line]] = {}
    for line in lines:
        name = _product(line) if policies.merge_products == "variant" else (line.get("id"), None)
        merged.setdefault(name, []).append(line)
    if len(merged) < len(lines):
        oddities.append(Oddity.PRODUCTS_MERGED)
    made = [_one_line(group) for group in merged.values()]
    if len({line.get("id") for line in made}) < len(made):
        oddities.append(Oddity.PRODUCT_REPEATED)
    return made


def _one_line(group: list[Line]) -> Line:
    line = group[0]
    if len(group) == 1 or any("price" not in other or "quantity" not in other for other in group):
        return line
    quantity = exact_sum(other["quantity"] for other in group)
    amount = exact_sum(net(other) for other in group)
    line = line | {"quantity": quantity}
    if quantity:
        line["price"] = round_to(EXACT.divide(amount, quantity), 6)
    return line


def settle_refunds(
    rows: list[Line], products: list[Line], digits: int, policies: Policies, oddities: list[Oddity]
) -> list[Line]:
    """Refund rows with cost, product and a quantity that was ordered; one row per product, variant and time, or (as the
    policy says) per product and variant with the latest time.

    Money of a refund that names no product goes where the policy says, with quantity 0: no returned unit is ever
    invented, and the amounts add up exactly. Rows of nothing at all are dropped.
    """
    for row in rows:
        if "refund_amount" in row:
            row.setdefault("refund_cost", row["refund_amount"])
    if policies.merge_products == "id":
        rows = [_under_first_variant(row, products) for row in rows]
    known = [row for row in rows if row.get("product_id")]
    placed = [part for row in rows for part in _place(row, known, products, digits, policies, oddities)]
    kept = [row for row in _merged(placed, policies) if not _is_nothing(row)]
    _clamp(kept, products, oddities)
    return [row for row in kept if not _is_nothing(row)]


def _under_first_variant(row: Line, products: list[Line]) -> Line:
    """The row under the variant that its product is listed under, where that is merged by its id alone."""
    for product in products:
        if product.get("id") == row.get("product_id"):
            rest = {name: value for name, value in row.items() if name != "variant_id"}
            return rest | ({"variant_id": product["variant_id"]} if "variant_id" in product else {})
    return row


def _merged(rows: list[Line], policies: Policies) -> list[Line]:
    merged: dict[tuple[Any, ...], Line] = {}
    for row in rows:
        key = (*_refunded(row), row.get("refund_made_at") if policies.merge_refunds == "event" else None)
        known = merged.get(key)
        if known is None:
            merged[key] = dict(row)
            continue
        for name in ("quantity", *_MONEY):
            if name in known and name in row:
                known[name] += row[name]
        times = {one["refund_made_at"] for one in (known, row) if "refund_made_at" in one}
        if len(times) > 1:
            known["refund_made_at"] = max(times, key=parse_time)
    return list(merged.values())


def _is_nothing(row: Line) -> bool:
    return all(name in row and not row[name] for name in ("quantity", *_MONEY))


def _place(
    row: Line, known: list[Line], products: list[Line], digits: int, policies: Policies, oddities: list[Oddity]
) -> list[Line]:
    """The row under products of the order, where it names none."""
    if row.get("product_id") or not products or not all(name in row for name in _MONEY):
        return [row]
    if _is_nothing(row):
        return []
    if policies.refund_without_product is Unplaced.DROP:
        oddities.append(Oddity.REFUND_DROPPED)
        return []
    try:
        weights = _weights(row, known, products, policies)
        parts = {name: shares(row[name], weights, digits) for name in _MONEY}
    except (KeyError, ValueError):
        return [row]
    oddities.append(Oddity.REFUND_SPREAD)
    made = []
    for index, product in enumerate(products):
        part = {"product_id": product.get("id"), "variant_id": product.get("variant_id"), "quantity": Decimal(0)}
        part |= {name: parts[name][index] for name in _MONEY} | {"refund_made_at": row.get("refund_made_at")}
        made.append({name: value for name, value in part.items() if value is not None})
    return made


def _weights(row: Line, known: list[Line], products: list[Line], policies: Policies) -> list[Decimal]:
    """How much of a row that names no product each product gets. Raises KeyError where a product lacks a value."""
    worth = [net(product) for product in products]
    if policies.refund_without_product is Unplaced.LARGEST_LINE:
        largest = worth.index(max(worth))
        return [Decimal(index == largest) for index in range(len(worth))]
    same = [other for other in known if other.get("refund_made_at") == row.get("refund_made_at")]
    here = [
        exact_sum(other["refund_amount"] for other in same if _refunded(other) == _product(product))
        for product in products
    ]
    return here if any(here) else worth


def _clamp(rows: list[Line], products: list[Line], oddities: list[Oddity]) -> None:
    """Never more refunded than ordered: the quantity is cut, the money is kept."""
    if not rows:
        return
    left: dict[Product, Decimal] = {}
    for product in products:
        left[_product(product)] = product.get("quantity", Decimal(0))
    ids = {product.get("id") for product in products}
    for row in rows:
        if row.get("product_id") not in ids:
            if row.get("product_id"):
                oddities.append(Oddity.REFUND_PRODUCT_UNKNOWN)
            continue
        key = _refunded(row)
        if key not in left or "quantity" not in row:
            continue
        if row["quantity"] > left[key]:
            row["quantity"] = max(left[key], Decimal(0))
            oddities.append(Oddity.REFUND_QUANTITY_CLAMPED)
        left[key] -= row["quantity"]
