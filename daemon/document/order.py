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
from typing import Any

import orjson

from daemon.document.outcome import Document
from daemon.mapping.attributes import EXCLUSIVE, ORDER, PERSONAL, Attribute, Type
from daemon.mapping.countries import ALPHA3
from daemon.mapping.currencies import CURRENCIES
from daemon.mapping.identity import is_email, is_ip
from daemon.mapping.operators import is_number, plain
from daemon.mapping.times import parse_time

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
    _object(order, _ORDER, "", None, found)
    for raw, hashed in EXCLUSIVE:
        if raw in order and hashed in order:
            found.append(Breach(hashed, hashed, f"may not be sent together with {raw}"))
    products = order.get("products")
    if isinstance(products, list) and not products:
        found.append(Breach("products", "products", "must hold at least one product"))
    return found


def breach(name: str, index: int | None, attribute: str, what: str) -> Breach:
    """A breach of an attribute of the object `name`, or of the item at `index` of the list `name`."""
    place = f"{name}.{attribute}" if name else attribute
    return Breach(place, place if index is None else f"{name}[{index}].{attribute}", what)


def _object(value: dict[str, Any], shape: _Shape, name: str, index: int | None, found: list[Breach]) -> None:
    for inner, required, check, parts in shape.rules:
        if inner in value:
            what = check(value[inner]) if check is not None else _nested(value[inner], inner, parts, found)
            if what is not None:
                found.append(breach(name, index, inner, what))
        elif required:
            found.append(breach(name, index, inner, "is required and has no value"))
    if not value.keys() <= shape.names.keys():
        for extra in sorted(value.keys() - shape.names.keys()):
            unknown = breach(name, index, extra, "is not an attribute of the Orders API")
            found.append(replace(unknown, attribute=name))


def _nested(value: Any, name: str, shape: _Shape, found: list[Breach]) -> str | None:
    """What is wrong with the value as a whole; what is wrong within it is added to `found`."""
    if not shape.many:
        if not isinstance(value, dict):
            return "must be an object"
        _object(value, shape, name, None, found)
        return None
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        return "must be a list of objects"
    before = len(found)
    for index, item in enumerate(value):
        _object(item, shape, name, index, found)
    if name == "refunds" and len(found) == before and len({frozenset(item.items()) for item in value}) != len(value):
        return "holds two equal rows"
    return None


def _text(value: Any) -> str | None:
    if type(value) is not str:  # nor what only passes for one, as an enumeration's member
        return "must be a text"
    if value.isascii():  # nearly always
        return None
    try:
        value.encode()
    except UnicodeEncodeError:
        return "is not valid Unicode"
    return None


def _id(value: Any) -> str | None:
    if value and type(value) is str and value.isascii():  # nearly always
        return None
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


def _check(attribute: Attribute) -> Callable[[Any], str | None]:
    of_type, exact = _TYPES[attribute.type], _EXACT.get(attribute.name)
    return of_type if exact is None else lambda value: of_type(value) or exact(value)


@dataclass(frozen=True, slots=True)
class _Shape:
    """The attributes of an object, or of the objects of a list where `many`, as checking and writing go over them."""

    names: dict[str, None]
    """In the order in which they are written."""
    rules: tuple[tuple[str, bool, Callable[[Any], str | None] | None, _Shape], ...]
    """Name, whether required, the check of its value (None: it has parts), its parts."""
    nested: dict[str, _Shape]
    """Those that have parts."""
    many: bool = False


def _shape(attributes: tuple[Attribute, ...], *, many: bool = False) -> _Shape:
    parts = {one.name: _shape(one.parts, many=one.type is Type.LIST) for one in attributes}
    return _Shape(
        dict.fromkeys(parts),
        tuple((one.name, one.required, None if one.parts else _check(one), parts[one.name]) for one in attributes),
        {one.name: parts[one.name] for one in attributes if one.parts},
        many,
    )


_ORDER = _shape(ORDER)


def canonical(order: dict[str, Any]) -> bytes:
    """The order as JSON: attributes in the model's order, exact numbers without exponent or trailing zeros, UTF-8.

    `order` is one that breaks no rule on types: nothing here looks for a float.
    """
    return orjson.dumps(_in_order(order, _ORDER), default=_number_text)


def _in_order(value: dict[str, Any], shape: _Shape) -> dict[str, Any]:
    ordered = {name: value[name] for name in shape.names if name in value}
    for name, parts in shape.nested.items():
        if name in ordered:
            inner = ordered[name]
            ordered[name] = [_in_order(item, parts) for item in inner] if parts.many else _in_order(inner, parts)
    return ordered


def _number_text(value: Any) -> orjson.Fragment:
    if type(value) is Decimal:
        return orjson.Fragment(plain(value))
    raise TypeError(f"a {type(value).__name__} has no place in a document")


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
