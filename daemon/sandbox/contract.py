"""Bytes of a POST or PATCH in; orders that fit the published contract and problems of those that do not, out. Pure.

The rules are transcribed from the provider's OpenAPI document (version 1.1.0) and its reference pages; `codes.py` holds
the two code sets. Where the document is looser than its own prose, the stricter reading is taken, because a stand-in
that lets through what the provider refuses is worse than the reverse: exact codes instead of unanchored patterns,
date-times with an offset, plain e-mail addresses, real IP addresses, no empty `variant_name`, and never a plain and a
hashed identifier together. Numbers are read as Decimal; every order keeps the very bytes it came in.
"""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from daemon.sandbox.codes import COUNTRIES, CURRENCIES

LARGEST = 100_000_000_000_000

Path = tuple[str | int, ...]
Finding = tuple[Path, str]
Rule = Callable[[Any, Path], Iterator[Finding]]


@dataclass(frozen=True, slots=True)
class Order:
    """One order that fits. `raw` are its bytes as sent; `purchased` is `time_of_purchase` in UTC."""

    index: int
    order_id: str
    raw: bytes
    purchased: datetime


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong at `path` of the order at `index`; both are empty where the fault is the batch's."""

    index: int | None
    order_id: str | None
    path: Path
    message: str


@dataclass(frozen=True, slots=True)
class Reading:
    """A body as read. `order_ids` are all ids that it names, also of orders that do not fit, in its order.

    `malformed` means that the body is no JSON; there are then no orders and one problem of the batch. `too_many` means
    that only the number of orders was judged.
    """

    orders: tuple[Order, ...]
    problems: tuple[Problem, ...]
    order_ids: tuple[str, ...]
    malformed: bool = False
    too_many: bool = False


MAX_PATCHES = 2500
"""`maxItems` of a PATCH."""


def read_patches(body: bytes) -> Reading:
    """Judge a whole body of a PATCH. Its orders are patches; their `purchased` says nothing."""
    return _judged(body, PATCH, MAX_PATCHES, unique_product_ids=False)


def read(body: bytes, *, max_orders: int = 1000, unique_product_ids: bool = False) -> Reading:
    """Judge a whole body of a POST. Every problem of every order is reported, in order."""
    return _judged(body, ORDER, max_orders, unique_product_ids=unique_product_ids)


def _judged(body: bytes, shape: Rule, max_orders: int, *, unique_product_ids: bool) -> Reading:
    try:
        items = list(_items(body))
    except _NotAnArray:
        return _batch_problem("Input should be a valid list")
    except (ValueError, ArithmeticError, RecursionError):
        return _batch_problem("Malformed JSON", malformed=True)
    named = tuple(found for value, _ in items if (found := _order_id(value)) is not None)
    if not items:
        return _batch_problem("List should have at least 1 item")
    if len(items) > max_orders:
        return _batch_problem(f"List should have at most {max_orders} items", order_ids=named, too_many=True)
    orders: list[Order] = []
    problems: list[Problem] = []
    seen: dict[str | None, set[Any]] = {}
    for index, (value, raw) in enumerate(items):
        order_id = _order_id(value)
        findings = list(shape(value, ()))
        if unique_product_ids:
            findings += _repeated_products(value)
        if not findings and not _first(value, seen.setdefault(order_id, set())):
            findings.append(((), "Orders must be unique within a request"))
        problems += [Problem(index, order_id, path, message) for path, message in findings]
        if not findings and order_id is not None:
            orders.append(Order(index, order_id, raw, moment(value.get("time_of_purchase") or "") or _NEVER))
    return Reading(tuple(orders), tuple(problems), named)


def moment(text: str) -> datetime | None:
    """An ISO-8601 date-time with its offset, in UTC; None for anything else."""
    if not _DATE_TIME.fullmatch(text):
        return None
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def identity(value: Any) -> Any:
    """A hashable stand-in that is equal exactly for equal JSON values: 1 and 1.0 are equal, 1 and true are not."""
    if isinstance(value, dict):
        return ("object", frozenset((name, identity(part)) for name, part in value.items()))
    if isinstance(value, list):
        return ("array", tuple(identity(part) for part in value))
    return (type(value).__name__, value)


_NEVER = datetime.min.replace(tzinfo=UTC)


def _first(value: Any, seen: set[Any]) -> bool:
    """Whether no equal value was seen before; asked only of values that fit, whose depth is known."""
    shape = identity(value)
    fresh = shape not in seen
    seen.add(shape)
    return fresh


class _NotAnArray(Exception):  # noqa: N818 - never leaves this module
    """The body is JSON, but no array."""


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


_DECODER = json.JSONDecoder(parse_float=Decimal, parse_int=Decimal, parse_constant=_refuse_constant)
_SPACE = re.compile(r"[ \t\n\r]*")


def _items(body: bytes) -> Iterator[tuple[Any, bytes]]:
    """The values of a top-level array, each with its own bytes. Raises ValueError where the body is no JSON."""
    text = body.decode("utf-8")
    at = _skip(text, 0)
    if text[at : at + 1] != "[":
        _, end = _DECODER.raw_decode(text, at)
        if _skip(text, end) != len(text):
            raise ValueError("text after the value")
        raise _NotAnArray
    at = _skip(text, at + 1)
    closed = text[at : at + 1] == "]"
    while not closed:
        value, end = _DECODER.raw_decode(text, at)
        yield value, text[at:end].encode("utf-8")
        at = _skip(text, end)
        closed = text[at : at + 1] == "]"
        if not closed:
            if text[at : at + 1] != ",":
                raise ValueError("neither a comma nor the end of the array")
            at = _skip(text, at + 1)
    if _skip(text, at + 1) != len(text):
        raise ValueError("text after the array")


def _skip(text: str, at: int) -> int:
    found = _SPACE.match(text, at)
    return found.end() if found else at


def _order_id(value: Any) -> str | None:
    found = value.get("order_id") if isinstance(value, dict) else None
    return found if isinstance(found, str) else None


def _batch_problem(
    message: str, *, order_ids: tuple[str, ...] = (), malformed: bool = False, too_many: bool = False
) -> Reading:
    return Reading((), (Problem(None, None, (), message),), order_ids, malformed, too_many)


def _text(least: int = 0, check: Callable[[str], str | None] | None = None) -> Rule:
    def rule(value: Any, path: Path) -> Iterator[Finding]:
        if not isinstance(value, str):
            yield path, "Input should be a valid string"
        elif len(value) < least:
            yield path, f"String should have at least {least} character{'s' if least > 1 else ''}"
        elif check is not None and (message := check(value)):
            yield path, message

    return rule


def _number(value: Any, path: Path) -> Iterator[Finding]:
    if not isinstance(value, Decimal):
        yield path, "Input should be a valid number"
    elif value > LARGEST:
        yield path, f"Input should be less than or equal to {LARGEST}"


def _boolean(value: Any, path: Path) -> Iterator[Finding]:
    if not isinstance(value, bool):
        yield path, "Input should be a valid boolean"


def _array(item: Rule, *, least: int = 0, unique: bool = False) -> Rule:
    def rule(value: Any, path: Path) -> Iterator[Finding]:
        if not isinstance(value, list):
            yield path, "Input should be a valid list"
            return
        if len(value) < least:
            yield path, f"List should have at least {least} item{'s' if least > 1 else ''}"
        seen: set[Any] = set()
        for index, part in enumerate(value):
            findings = list(item(part, (*path, index)))
            yield from findings
            if unique and not findings and not _first(part, seen):
                yield (*path, index), "Items must be unique"

    return rule


def _closed(required: dict[str, Rule], optional: dict[str, Rule], also: Rule | None = None) -> Rule:
    """An object with these members and no others; `also` looks at it as a whole."""
    members = required | optional

    def rule(value: Any, path: Path) -> Iterator[Finding]:
        if not isinstance(value, dict):
            yield path, "Input should be a valid object"
            return
        yield from (((*path, name), "Field required") for name in required if name not in value)
        for name, part in value.items():
            if name in members:
                yield from members[name](part, (*path, name))
            else:
                yield (*path, name), "Extra inputs are not permitted"
        if also is not None:
            yield from also(value, path)

    return rule


_DATE_TIME = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,9})?(Z|[+-][0-9]{2}:[0-9]{2})"
)
_ATOM = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
_LABEL = r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_EMAIL = re.compile(rf"(?=.{{1,64}}@){_ATOM}(\.{_ATOM})*@(?=.{{1,253}}$)({_LABEL}\.)+{_LABEL}")


def _is_date_time(text: str) -> str | None:
    return None if moment(text) else "Value error, Invalid ISO TS"


def _is_email(text: str) -> str | None:
    return None if _EMAIL.fullmatch(text) else "value is not a valid email address"


def _is_ip(text: str) -> str | None:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return "value is not a valid IPv4 or IPv6 address"
    return "value is not a valid IPv4 or IPv6 address" if "%" in text else None


def _is_currency(text: str) -> str | None:
    return None if text in CURRENCIES else "Currency does not match any known currencies"


def _is_country(text: str) -> str | None:
    return None if text in COUNTRIES else "Country code should use three-letter ISO 3166 country codes"


def _not_both(value: dict[str, Any], path: Path) -> Iterator[Finding]:
    for plain in ("customer_email", "customer_phone_number"):
        if plain in value and f"hashed_{plain}" in value:
            yield (*path, plain), f"Cannot be provided if hashed_{plain} is present"


def _repeated_products(value: Any) -> Iterator[Finding]:
    for attribute, key in (("products", "id"), ("refunds", "product_id")):
        lines = value.get(attribute) if isinstance(value, dict) else None
        seen: set[str] = set()
        for index, line in enumerate(lines if isinstance(lines, list) else []):
            product = line.get(key) if isinstance(line, dict) else None
            if isinstance(product, str):
                if product in seen:
                    yield (attribute, index, key), "Cannot include duplicate product IDs"
                seen.add(product)


PRODUCT = _closed(
    required={"id": _text(1), "name": _text(1), "quantity": _number, "price": _number},
    optional={"variant_id": _text(1), "variant_name": _text(1)},
)

REFUND = _closed(
    required={
        "product_id": _text(1),
        "quantity": _number,
        "refund_amount": _number,
        "refund_cost": _number,
        "refund_made_at": _text(check=_is_date_time),
    },
    optional={"variant_id": _text(1)},
)

ADDRESS = _closed(
    required={"zip": _text(), "country_code": _text(1, _is_country)},
    optional={"address1": _text(1), "address2": _text(), "city": _text(1), "state": _text()},
)


def _nullable(rule: Rule) -> Rule:
    return lambda value, path: iter(()) if value is None else rule(value, path)


_OPTIONAL = {
    "customer_email": _text(check=_is_email),
    "hashed_customer_email": _text(),
    "customer_phone_number": _text(),
    "hashed_customer_phone_number": _text(),
    "customer_name": _text(),
    "customer_ip_address": _text(check=_is_ip),
    "discount_codes": _array(_text(), unique=True),
    "discount_amount": _number,
    "order_tags": _array(_text(), unique=True),
    "is_recurring_order": _boolean,
    "refunds": _array(REFUND, unique=True),
    "customer_shipping_address": ADDRESS,
    "alternate_order_ids": _array(_closed(required={"type": _text(1), "id": _text(1)}, optional={})),
}

ORDER = _closed(
    required={
        "order_id": _text(1),
        "customer_id": _text(1),
        "time_of_purchase": _text(check=_is_date_time),
        "currency": _text(3, _is_currency),
        "purchase_total": _number,
        "tax": _number,
        "shipping_cost": _number,
        "products": _array(PRODUCT, least=1),
    },
    optional=_OPTIONAL,
    also=_not_both,
)

PATCH = _closed(
    required={"order_id": _text(1), "customer_id": _text(1)},
    optional={
        "time_of_purchase": _text(check=_is_date_time),
        **{
            name: _nullable(rule)
            for name, rule in {
                "currency": _text(3, _is_currency),
                "purchase_total": _number,
                "tax": _number,
                "shipping_cost": _number,
                **_OPTIONAL,
            }.items()
            if name != "refunds"  # neither they nor products can be patched
        },
    },
    also=_not_both,
)
"""Only `order_id`, `customer_id` and `time_of_purchase` cannot be null."""
