"""Golden documents of the shops: YAML of texts, in which every number is written as the arithmetic that makes it.

`usual` holds what most documents of a shop have; an order says what differs, and `without` names what it lacks. Numbers
are sums, products and quotients of the shop's own figures, worked out in fractions; `round(x)` rounds half-up to the
currency's minor unit. `base64 x` and `guest x` stand for the base64 of a text, and for the id of a guest with that
normal address.
"""

from __future__ import annotations

import ast
import base64
import hashlib
from collections.abc import Iterator, Mapping
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

MONEY = ("purchase_total", "tax", "shipping_cost", "discount_amount", "refund_amount", "refund_cost")
UNITS = ("price", "quantity")
UNIT_DIGITS = 6


def goldens(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """The whole expected document of each order, by the order's number."""
    content = YAML(typ="base", pure=True).load(path.read_text(encoding="utf-8"))
    for number, told in content["orders"].items():
        document = {**content["usual"], **told}
        for name in ("what", *document.pop("without", ())):
            document.pop(name)
        digits = 0 if document["currency"] == "JPY" else 2
        for refund in document["refunds"]:
            refund.setdefault("refund_cost", refund["refund_amount"])
        yield number, _read(document, digits)


def _read(value: Any, digits: int, name: str = "") -> Any:
    if isinstance(value, Mapping):
        return {key: _read(part, digits, key) for key, part in value.items()}
    if isinstance(value, list):
        return [_read(part, digits) for part in value]
    if name in MONEY:
        number = worked_out(value, digits)
        assert number == half_up(number, digits), f"{name}: {value} does not come out in minor units"
        return _decimal(number)
    if name in UNITS:
        return _decimal(half_up(worked_out(value, digits), UNIT_DIGITS))
    if name == "is_recurring_order":
        return value == "true"
    how, _, text = value.partition(" ")
    if how == "base64":
        return base64.b64encode(text.encode()).decode()
    if how == "guest":
        return f"guest_{hashlib.sha256(text.encode()).hexdigest()[:32]}"
    return value


def worked_out(text: str, digits: int) -> Fraction:
    """The exact value of an arithmetic text."""

    def value(node: ast.AST) -> Fraction:
        match node:
            case ast.BinOp(left=left, op=ast.Add(), right=right):
                return value(left) + value(right)
            case ast.BinOp(left=left, op=ast.Sub(), right=right):
                return value(left) - value(right)
            case ast.BinOp(left=left, op=ast.Mult(), right=right):
                return value(left) * value(right)
            case ast.BinOp(left=left, op=ast.Div(), right=right):
                return value(left) / value(right)
            case ast.Call(func=ast.Name(id="round"), args=[inner]):
                return half_up(value(inner), digits)
            case ast.Constant():
                return Fraction(str(ast.get_source_segment(text, node)))
        raise ValueError(f"{text}: is no arithmetic")

    return value(ast.parse(text, mode="eval").body)


def half_up(value: Fraction, digits: int) -> Fraction:
    """Rounded half away from zero."""
    scaled = abs(value) * 10**digits
    whole = (2 * scaled.numerator + scaled.denominator) // (2 * scaled.denominator)
    return Fraction(whole if value >= 0 else -whole, 10**digits)


def _decimal(value: Fraction) -> Decimal:
    return Decimal(value.numerator) / Decimal(value.denominator)
