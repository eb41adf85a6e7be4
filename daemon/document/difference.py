"""Where two documents of one order differ, by what they mean. Pure.

Numbers compare as numbers, times as moments, lists without their order; what is absent, null, empty, false and 0 is the
same, since the API may show its own default of what was not sent; attributes that it adds count for nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import datetime
from decimal import Decimal, InvalidOperation
from typing import Any, TypeAlias

from daemon.mapping.attributes import ORDER, Attribute, Type
from daemon.mapping.operators import plain
from daemon.mapping.times import parse_time

Document: TypeAlias = "dict[str, Any]"
Differences: TypeAlias = "dict[str, tuple[Any, Any]]"

_NUMBERS = (Type.MONEY, Type.PRICE, Type.QUANTITY)
_IDENTITY = {
    "products": ("id", "variant_id"),
    "refunds": ("product_id", "variant_id", "refund_made_at"),
    "alternate_order_ids": ("type", "id"),
}
"""What makes two items of a list the same item."""


def parsed(body: bytes | str) -> Document:
    """A document from its JSON, every number exact."""
    found: Document = json.loads(body, parse_float=Decimal)
    return found


def differences(one: Document, other: Document) -> Differences:
    """The attributes that differ, in the model's order, with both values.

    Parts of an address and of list items stand under names such as `products.price`, with the values of all items; a
    list whose items are not the same ones stands under its own name.
    """
    found: Differences = {}
    for attribute in ORDER:
        name = attribute.name
        a, b = one.get(name), other.get(name)
        if attribute.type is Type.OBJECT:
            found |= _parts(attribute, [_table(a)], [_table(b)], single=True)
        elif attribute.type is Type.LIST:
            found |= _items(attribute, _tables(a), _tables(b))
        elif _meaning(attribute, a) != _meaning(attribute, b):
            found[name] = (a, b)
    return found


def _table(value: Any) -> Document:
    return value if isinstance(value, dict) else {}


def _tables(value: Any) -> list[Document]:
    return [_table(item) for item in value] if isinstance(value, list) else []


def _items(attribute: Attribute, one: list[Document], other: list[Document]) -> Differences:
    identity = [part for part in attribute.parts if part.name in _IDENTITY[attribute.name]]
    a, b = (sorted(items, key=lambda item: _sorting(attribute.parts, identity, item)) for items in (one, other))
    if [_identity(identity, item) for item in a] != [_identity(identity, item) for item in b]:
        return {attribute.name: (one, other)}
    return _parts(attribute, a, b)


def _identity(identity: list[Attribute], item: Document) -> list[str]:
    return [repr(_meaning(part, item.get(part.name))) for part in identity]


def _sorting(parts: Iterable[Attribute], identity: list[Attribute], item: Document) -> tuple[list[str], list[str]]:
    return _identity(identity, item), [repr(_meaning(part, item.get(part.name))) for part in parts]


def _parts(attribute: Attribute, one: list[Document], other: list[Document], *, single: bool = False) -> Differences:
    found: Differences = {}
    for part in attribute.parts:
        a, b = ([item.get(part.name) for item in items] for items in (one, other))
        if [_meaning(part, value) for value in a] != [_meaning(part, value) for value in b]:
            found[f"{attribute.name}.{part.name}"] = (a[0], b[0]) if single else (a, b)
    return found


def _meaning(attribute: Attribute, value: Any) -> Any:
    """The value in a form in which what means the same is equal."""
    if not value:
        return None
    if attribute.type is Type.TEXTS and isinstance(value, list):
        return sorted(map(repr, value))
    if attribute.type is Type.TIME:
        return _moment(value)
    if attribute.type in _NUMBERS:
        return _number(value)
    return value if isinstance(value, bool) else str(value)


def _moment(value: Any) -> datetime | str:
    try:
        return parse_time(value, "UTC")
    except (ValueError, AttributeError):
        return str(value)


def _number(value: Any) -> str | None:
    """The digits without trailing zeros, of 0 none; the API may write a number as a text."""
    try:
        text = plain(Decimal(value) if isinstance(value, str) else value)
    except (InvalidOperation, ValueError, TypeError):
        return repr(value)
    return None if text == "0" else text
