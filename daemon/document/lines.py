"""Product lines and refund rows put into the form that the strictest reading of the API accepts.

A row that lacks a value it needs is passed on as it is: validation names it.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from daemon.document.outcome import Oddity
from daemon.mapping.currencies import exact_sum, round_to, shares
from daemon.mapping.operators import EXACT

Line = dict[str, Any]
_MONEY = ("refund_amount", "refund_cost")


def net(line: Line) -> Decimal:
    """Price x quantity, exact. Raises KeyError where one is missing."""
    return EXACT.multiply(line["price"], line["quantity"])


def _product(line: Line) -> tuple[Any, Any]:
    return line.get("id"), line.get("variant_id")


def _refunded(row: Line) -> tuple[Any, Any]:
    return row.get("product_id"), row.get("variant_id")


def merge_products(lines: list[Line], oddities: list[Oddity]) -> list[Line]:
    """One line per product and variant: quantities summed, price = sum of price x quantity / quantity, first name.

    The API may refuse a product that is listed twice; whether it does is not documented.
    """
    merged: dict[tuple[Any, Any], list[Line]] = {}
    for line in lines:
        merged.setdefault(_product(line), []).append(line)
    if len(merged) == len(lines):
        return lines
    oddities.append(Oddity.PRODUCTS_MERGED)
    return [_one_line(group) for group in merged.values()]


def _one_line(group: list[Line]) -> Line:
    line = dict(group[0])
    if len(group) == 1 or any("price" not in other or "quantity" not in other for other in group):
        return line
    quantity = exact_sum(other["quantity"] for other in group)
    amount = exact_sum(net(other) for other in group)
    line["quantity"] = quantity
    if quantity:
        line["price"] = round_to(EXACT.divide(amount, quantity), 6)
    return line


def settle_refunds(rows: list[Line], products: list[Line], digits: int, oddities: list[Oddity]) -> list[Line]:
    """Refund rows with cost, product and a quantity that was ordered; one row per product, variant and time.

    A refund without a product is spread over the lines pro rata by net amount with quantity 0: no returned unit is
    ever invented, and the amounts add up exactly. Rows of nothing at all are dropped.
    """
    for row in rows:
        if "refund_amount" in row:
            row.setdefault("refund_cost", row["refund_amount"])
    placed = [part for row in rows for part in _spread(row, products, digits, oddities)]
    merged: dict[tuple[Any, ...], Line] = {}
    for row in placed:
        key = (*_refunded(row), row.get("refund_made_at"))
        known = merged.get(key)
        if known is None:
            merged[key] = dict(row)
        else:
            for name in ("quantity", *_MONEY):
                if name in known and name in row:
                    known[name] += row[name]
    kept = [row for row in merged.values() if not _is_nothing(row)]
    _clamp(kept, products, oddities)
    return [row for row in kept if not _is_nothing(row)]


def _is_nothing(row: Line) -> bool:
    return all(name in row and not row[name] for name in ("quantity", *_MONEY))


def _spread(row: Line, products: list[Line], digits: int, oddities: list[Oddity]) -> list[Line]:
    if row.get("product_id") or not products or not all(name in row for name in _MONEY):
        return [row]
    if _is_nothing(row):
        return []
    try:
        weights = [net(product) for product in products]
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


def _clamp(rows: list[Line], products: list[Line], oddities: list[Oddity]) -> None:
    """Never more refunded than ordered: the quantity is cut, the money is kept."""
    if not rows:
        return
    left: dict[tuple[Any, Any], Decimal] = {}
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
