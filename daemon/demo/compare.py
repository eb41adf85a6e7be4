"""Holds every order of the demo shop against what the API holds, attribute by attribute.

What is expected comes from `truth.sql` over the OMS database, which shares nothing with the daemon's mapping. Numbers
compare by value; the order of products, refunds, tags and codes has no meaning.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from importlib.resources import files
from typing import Any

import psycopg

from daemon.sandbox.client import SandboxAdmin

Document = Mapping[str, Any]
SHOWN = 20
VOID_TAG = "Cancelled"  # as the demo's mapping has it
LISTS = ("products", "refunds", "order_tags", "discount_codes")


class Expectation(StrEnum):
    """What the API should hold of an order."""

    DOCUMENT = "document"  # exactly this
    VOID = "void"  # a void of it, or nothing where it was never sent
    ABSENT = "absent"  # nothing


@dataclass(frozen=True, slots=True)
class Expected:
    """One order as the OMS has it. For a void, `document` holds the attributes that follow from the OMS."""

    order_id: str
    expectation: Expectation
    document: Document


@dataclass(frozen=True, slots=True)
class Difference:
    """One attribute of one order that is not as it should be."""

    order_id: str
    attribute: str
    expected: Any
    found: Any

    def __str__(self) -> str:
        return f"{self.order_id}  {self.attribute}: expected {_text(self.expected)}, found {_text(self.found)}"


def compare(oms: psycopg.Connection, api: SandboxAdmin, say: Callable[[str], None]) -> int:
    """Hold all orders of the OMS against all that the API holds, and say what was found. Returns the exit status."""
    held = api.orders()

    def before_void(order_id: str) -> list[Document]:
        documents = [version.document for version in api.versions(order_id)]
        return [one for one in reversed(documents) if VOID_TAG not in one.get("order_tags", [])]

    expected = expected_orders(oms)
    found = differences(expected, held, before_void=before_void, void_tag=VOID_TAG)
    return report(len(expected), found, kinds(oms, held), say)


def expected_orders(connection: psycopg.Connection) -> list[Expected]:
    """What the OMS database says, by `truth.sql`."""
    rows = connection.execute(files("daemon.demo").joinpath("truth.sql").read_text(encoding="utf-8")).fetchall()
    return [
        Expected(order_id, Expectation(expectation), json.loads(document, parse_float=Decimal))
        for order_id, expectation, document in rows
    ]


def differences(
    expected: Iterable[Expected],
    found: Mapping[str, Document],
    *,
    before_void: Callable[[str], Sequence[Document]],
    void_tag: str,
) -> list[Difference]:
    """Everything that differs. `before_void` gives the versions of an order that were no void, the last one first."""
    result: list[Difference] = []
    known = set()
    for order in expected:
        known.add(order.order_id)
        document = found.get(order.order_id)
        match order.expectation:
            case Expectation.DOCUMENT if document is None:
                result.append(Difference(order.order_id, "order", "present", "absent"))
            case Expectation.ABSENT if document is not None:
                result.append(Difference(order.order_id, "order", "absent", "present"))
            case Expectation.DOCUMENT if document is not None:
                result += _attributes(order.order_id, order.document, document)
            case Expectation.VOID if document is not None:
                result += _void(order, document, before_void(order.order_id), void_tag)
    result += [
        Difference(order_id, "order", "unknown to the OMS", "present") for order_id in found if order_id not in known
    ]
    return result


def _void(order: Expected, found: Document, before: Sequence[Document], void_tag: str) -> list[Difference]:
    """A void keeps what was last sent, but for the money, the quantities, the refunds and one more tag.

    What was last sent is a version's affair: lines that were edited or deleted just before were never sent. And it is
    one that the daemon knows to be accepted: where it was killed before the answer, an older one than the API's last.
    """
    if not before:
        return [Difference(order.order_id, "order", "sent before it is voided", "only a void")]
    return min((_void_of(order, found, version, void_tag) for version in before), key=len)


def _void_of(order: Expected, found: Document, before: Document, void_tag: str) -> list[Difference]:
    products = [{**product, "quantity": 0, "price": 0} for product in before["products"]]
    tags = sorted({*before.get("order_tags", []), void_tag})
    return _attributes(order.order_id, {**before, **order.document, "products": products, "order_tags": tags}, found)


def _attributes(order_id: str, expected: Document, found: Document) -> list[Difference]:
    result = []
    for name in sorted(expected.keys() | found.keys()):
        one, other = expected.get(name), found.get(name)
        if name in LISTS and isinstance(one, list) and isinstance(other, list):
            same = sorted(map(_canonical, one)) == sorted(map(_canonical, other))
        else:
            same = _canonical(one) == _canonical(other)
        if not same:
            result.append(Difference(order_id, name, one, other))
    return result


def _canonical(value: Any) -> str:
    """A text that is equal for equal values: 1.50 and 1.5 are, 1 and true are not."""
    match value:
        case bool() | None | str():
            return json.dumps(value)
        case int() | Decimal():
            return format(Decimal(value).normalize() + 0, "f")
        case dict():
            return "{" + ",".join(f"{json.dumps(key)}:{_canonical(value[key])}" for key in sorted(value)) + "}"
        case list():
            return "[" + ",".join(map(_canonical, value)) + "]"
        case _:
            raise TypeError(f"a {type(value).__name__} is no JSON value")


def _text(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, default=str, ensure_ascii=False, sort_keys=True)
    return text if len(text) <= 300 else text[:300] + "…"


def kinds(connection: psycopg.Connection, found: Container[str]) -> dict[str, int]:
    """How many orders of each kind there were. One that ended was sent before if the API holds it: it is in `found`."""
    counts: Counter[str] = Counter()
    for number, kind in connection.execute("select number, kind from demo.order_kind"):
        sent = number in found
        match kind:
            case "cancelled before payment" | "cancelled before the start" | "cancelled after payment":
                counts["cancelled after sending" if sent else "cancelled before sending"] += 1
            case "deleted":
                counts["deleted after sending" if sent else "deleted before sending"] += 1
            case _:
                counts[kind] += 1
    return dict(counts)


def report(orders: int, found: list[Difference], by_kind: Mapping[str, int], say: Callable[[str], None]) -> int:
    """Say what was found; the last line is the verdict. Returns the exit status."""
    for difference in found[:SHOWN]:
        say(str(difference))
    if len(found) > SHOWN:
        say(f"… and {len(found) - SHOWN} more")
    say("orders by kind (an order may be of several):")
    for kind, count in sorted(by_kind.items()):
        say(f"  {kind:<28}{count:>6}")
    say(f"demo: {orders} orders, {len(found)} differences")
    return 0 if orders and not found else 1
