"""The Orders API's order: its rules, its canonical bytes, and what a void of it looks like.

Where the provider's documents disagree the stricter reading that every reader accepts is taken: exact code sets
instead of the unanchored patterns, no negative numbers, no empty optional texts, raw or hashed but never both.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from decimal import Decimal
from json.encoder import encode_basestring
from typing import Any, TypeAlias

from daemon.document.outcome import Document
from daemon.mapping.attributes import EXCLUSIVE, ORDER, PERSONAL, Attribute, Type
from daemon.mapping.countries import ALPHA3
from daemon.mapping.currencies import CURRENCIES
from daemon.mapping.identity import is_email, is_ip
from daemon.mapping.operators import is_number, plain
from daemon.mapping.times import parse_time

_ABSENT = object()
_ZERO = Decimal(0)

LARGEST = Decimal(10**14)
"""The schema's maximum of every number, written there as a text."""


@dataclass(frozen=True, slots=True)
class Breach:
    """A rule that an order breaks. `attribute` is its place without list positions; no value is shown."""

    attribute: str
    path: str
    what: str

    def __str__(self) -> str:
        return f"{self.path}: {self.what}"


def validate(order: dict[str, Any]) -> list[str]:
    """What the API would refuse about this order, as `path: what is wrong`; empty where nothing is."""
    return [str(breach) for breach in breaches(order)]


def breaches(order: dict[str, Any]) -> list[Breach]:
    """The same as values."""
    found: list[Breach] = []
    _object(order, _ORDER, "", "", found)
    for raw, hashed in EXCLUSIVE:
        if raw in order and hashed in order:
            found.append(Breach(hashed, hashed, f"may not be sent together with {raw}"))
    products = order.get("products")
    if isinstance(products, list) and not products:
        found.append(Breach("products", "products", "must hold at least one product"))
    return found


def _joined(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _object(value: dict[str, Any], plans: _Plans, name: str, path: str, found: list[Breach]) -> None:
    known = 0
    for plan in plans:
        inner = plan.name
        item = value.get(inner, _ABSENT)
        if item is _ABSENT:
            if plan.required:
                found.append(Breach(_joined(name, inner), _joined(path, inner), "is required and has no value"))
            continue
        known += 1
        if plan.check is None:
            _nested(item, plan, found)
            continue
        what = plan.check(item)
        if what is None and plan.exact is not None:
            what = plan.exact(item)
        if what is not None:
            found.append(Breach(_joined(name, inner), _joined(path, inner), what))
    if known != len(value):
        extras = sorted(value.keys() - {plan.name for plan in plans})
        found.extend(Breach(name, _joined(path, extra), "is not an attribute of the Orders API") for extra in extras)


def _nested(value: Any, plan: _Plan, found: list[Breach]) -> None:
    name = plan.name
    if plan.type is Type.OBJECT:
        if isinstance(value, dict):
            _object(value, plan.parts, name, name, found)
        else:
            found.append(Breach(name, name, "must be an object"))
        return
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        found.append(Breach(name, name, "must be a list of objects"))
        return
    before = len(found)
    for index, item in enumerate(value):
        _object(item, plan.parts, name, f"{name}[{index}]", found)
    if name == "refunds" and len(found) == before and len({frozenset(item.items()) for item in value}) != len(value):
        found.append(Breach(name, name, "holds two equal rows"))


def _text(value: Any) -> str | None:
    if not isinstance(value, str):
        return "must be a text"
    try:
        value.encode()
    except UnicodeEncodeError:
        return "is not valid Unicode"
    return None


def _id(value: Any) -> str | None:
    return _text(value) or (None if value else "must not be empty")


def _number(value: Any) -> str | None:
    if not is_number(value):
        return "must be a number"
    if _ZERO <= value <= LARGEST:
        return None
    if value > LARGEST:
        return "is more than 10^14"
    return "is negative, which the API's documents give no meaning; write abs(x) where the shop stores it so"


def _flag(value: Any) -> str | None:
    return None if isinstance(value, bool) else "must be true or false"


def _time(value: Any) -> str | None:
    if not isinstance(value, str):
        return "must be an ISO-8601 time"
    try:
        parse_time(value)
    except ValueError:
        return "must be an ISO-8601 time with an offset"
    return None if "T" in value else "must be an ISO-8601 time with an offset"


def _texts(value: Any) -> str | None:
    if not isinstance(value, list) or any(_text(item) for item in value):
        return "must be a list of texts"
    return None if len(set(value)) == len(value) else "holds a text twice"


_TYPES: dict[Type, Callable[[Any], str | None]] = {
    Type.TEXT: _text,
    Type.ID: _id,
    Type.MONEY: _number,
    Type.PRICE: _number,
    Type.QUANTITY: _number,
    Type.FLAG: _flag,
    Type.TIME: _time,
    Type.TEXTS: _texts,
}


def _among(codes: frozenset[str], otherwise: str) -> Callable[[Any], str | None]:
    return lambda value: None if value in codes else otherwise


def _passing(test: Callable[[str], bool], otherwise: str) -> Callable[[Any], str | None]:
    return lambda value: None if test(value) else otherwise


_EXACT: dict[str, Callable[[Any], str | None]] = {
    "currency": _among(
        CURRENCIES,
        "is not a currency code that the API knows (upper-case ISO 4217); write upper(x) where it is stored otherwise",
    ),
    "country_code": _among(ALPHA3, "is not an upper-case ISO 3166 alpha-3 code; write alpha3(x)"),
    "customer_email": _passing(is_email, "is not an e-mail address"),
    "customer_ip_address": _passing(is_ip, "is not an IP address"),
}


@dataclass(frozen=True, slots=True)
class _Plan:
    """How an attribute is checked and written: worked out once, since members of an enumeration are slow to reach."""

    name: str
    label: str
    type: Type
    required: bool
    check: Callable[[Any], str | None] | None
    """Of its type; None: it has parts."""
    exact: Callable[[Any], str | None] | None
    """Of its values."""
    parts: tuple[_Plan, ...]


_Plans: TypeAlias = tuple[_Plan, ...]


def _plans(attributes: tuple[Attribute, ...]) -> _Plans:
    return tuple(
        _Plan(
            one.name,
            f'"{one.name}":',
            one.type,
            one.required,
            None if one.parts else _TYPES[one.type],
            _EXACT.get(one.name),
            _plans(one.parts),
        )
        for one in attributes
    )


_ORDER = _plans(ORDER)


def canonical(order: dict[str, Any]) -> bytes:
    """The order as JSON: attributes in the model's order, exact numbers without exponent or trailing zeros, UTF-8."""
    return _object_text(order, _ORDER).encode()


_TEXT_OF: dict[type, Callable[[Any], str]] = {
    str: encode_basestring,
    Decimal: plain,
    int: plain,
    bool: lambda value: "true" if value else "false",
}


def _object_text(value: dict[str, Any], plans: _Plans) -> str:
    texts = []
    for plan in plans:
        item = value.get(plan.name, _ABSENT)
        if item is not _ABSENT:
            text_of = _TEXT_OF.get(type(item))
            texts.append(plan.label + (_nested_text(item, plan) if text_of is None else text_of(item)))
    return f"{{{','.join(texts)}}}"


def _nested_text(value: Any, plan: _Plan) -> str:
    kind = type(value)
    if kind is dict:
        return _object_text(value, plan.parts)
    if kind is list:
        return f"[{','.join([_nested_text(item, plan) for item in value])}]"
    text_of = _TEXT_OF.get(kind)
    if text_of is None:
        raise TypeError(f"{plan.name}: a {kind.__name__} has no place in a document")
    return text_of(value)


def document_of(order: dict[str, Any]) -> Document:
    """The document of a valid order."""
    body = canonical(order)
    placed_at = parse_time(order["time_of_purchase"]).timestamp()
    return Document(order["order_id"], body, hashlib.sha256(body).digest(), placed_at, order["purchase_total"] == 0)


def void_document(body: bytes, tag: str) -> Document:
    """The document that voids an order: the last one with money and quantities zero, no refunds, and the tag.

    The API can neither cancel nor delete; sending the order again with zeros and a tag that the merchant excludes is
    the provider's own practice. Tags that were there stay, since dashboards are chosen by them. Voiding twice changes
    nothing.
    """
    order = json.loads(body, parse_float=Decimal)
    for name in ("purchase_total", "tax", "shipping_cost", "discount_amount"):
        if name in order:
            order[name] = 0
    for product in order["products"]:
        product["quantity"] = 0
        product["price"] = 0
    order["refunds"] = []
    order["order_tags"] = sorted({*order.get("order_tags", []), tag})
    return document_of(order)


def read_document(body: bytes) -> Document:
    """The document that these canonical bytes are."""
    return document_of(json.loads(body, parse_float=Decimal))


def without_customer(order: dict[str, Any], customer_id: str) -> dict[str, Any]:
    """An order of an erased customer: all that says who that was is left out; the required id is another one."""
    return {
        **{name: value for name, value in order.items() if name not in PERSONAL},
        "customer_id": customer_id,
    }


def erased_document(body: bytes, customer_id: str) -> tuple[bytes, frozenset[str]]:
    """The bytes of a document without its customer, and the attributes that were left out."""
    order = json.loads(body, parse_float=Decimal)
    return canonical(without_customer(order, customer_id)), PERSONAL & order.keys()


def clearing_document(document: Document, names: Iterable[str]) -> Document:
    """The PATCH that clears these attributes of an order whose document says nothing of them.

    A POST without an attribute may leave what the API has; a null in a PATCH clears it. The id of the customer, which a
    PATCH must name too, is that of the document.
    """
    order = json.loads(document.body, parse_float=Decimal)
    patch = {"order_id": order["order_id"], "customer_id": order["customer_id"]} | dict.fromkeys(sorted(names))
    return replace(document, body=json.dumps(patch, ensure_ascii=False, separators=(",", ":")).encode())
