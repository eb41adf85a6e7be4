"""Where each value of a document comes from, and whether its money adds up. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from daemon.document.lines import net
from daemon.mapping.currencies import exact_sum, minor_digits, quantum
from daemon.mapping.expressions import Expression
from daemon.mapping.model import Mapping


@dataclass(frozen=True, slots=True)
class Value:
    """One value of a document. `path` is its place, such as `products[0].price`; `origins` the expressions behind it.

    None where the engine made it; several where rules of a list share their attribute.
    """

    path: str
    value: Any
    origins: tuple[Expression, ...]


def origins(mapping: Mapping) -> dict[str, tuple[Expression, ...]]:
    """The expressions behind each attribute, parts under names such as `products.price`."""
    found: dict[str, tuple[Expression, ...]] = {}
    for name, rule in mapping.document.items():
        if isinstance(rule, Expression):
            found[name] = (rule,)
        elif isinstance(rule, dict):
            found |= {f"{name}.{part}": (expression,) for part, expression in rule.items()}
        else:
            for one in rule:
                for part, expression in one.item.items():
                    found[f"{name}.{part}"] = (*found.get(f"{name}.{part}", ()), expression)
    return found


def values(document: dict[str, Any], known: dict[str, tuple[Expression, ...]]) -> Iterator[Value]:
    """Every value of a document in its order, with its origin."""
    for name, value in document.items():
        if isinstance(value, dict):
            for part, inner in value.items():
                yield Value(f"{name}.{part}", inner, known.get(f"{name}.{part}", ()))
        elif isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
            for index, item in enumerate(value):
                for part, inner in item.items():
                    yield Value(f"{name}[{index}].{part}", inner, known.get(f"{name}.{part}", ()))
        else:
            yield Value(name, value, known.get(name, ()))


@dataclass(frozen=True, slots=True)
class Sums:
    """The money of one document. `gap` is the total less lines, tax and shipping, `tolerated` a minor unit a line."""

    lines: Decimal
    tax: Decimal
    shipping: Decimal
    total: Decimal
    tolerated: Decimal

    @property
    def gap(self) -> Decimal:
        """What is missing from the lines; below zero what they have too much."""
        return self.total - self.lines - self.tax - self.shipping

    @property
    def agree(self) -> bool:
        """Whether it adds up within what rounding explains."""
        return abs(self.gap) <= self.tolerated


def sums_of(document: dict[str, Any]) -> Sums:
    """The sums of a valid document."""
    products = document["products"]
    return Sums(
        exact_sum(net(product) for product in products),
        Decimal(document["tax"]),
        Decimal(document["shipping_cost"]),
        Decimal(document["purchase_total"]),
        quantum(minor_digits(document["currency"])) * len(products),
    )
