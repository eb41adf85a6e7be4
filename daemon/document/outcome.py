"""What assembling one order can come to. Every outcome is a value; a reason is from a closed set."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias


class Oddity(StrEnum):
    """Something about an order that was put right or let pass, and is counted. The metric's closed label set."""

    ADDRESS_DROPPED = "address_dropped"  # no postal code, or no country the API knows
    ADDRESS_PARTIAL = "address_partial"  # sent without street, city or state
    EMAIL_DROPPED = "email_dropped"
    PHONE_DROPPED = "phone_dropped"
    IP_DROPPED = "ip_dropped"
    CUSTOMER_ID_IS_EMAIL = "customer_id_is_email"
    DISCOUNT_SIGN = "discount_sign"  # stored negative, sent positive
    PRODUCTS_MERGED = "products_merged"  # several lines of one product and variant
    PRODUCT_REPEATED = "product_repeated"  # one product id on several lines, by variant: the API may refuse it
    REFUND_SPREAD = "refund_spread"  # a refund without a product, spread over the lines
    REFUND_PRODUCT_UNKNOWN = "refund_product_unknown"  # a refund of something that is not in `products`
    REFUND_QUANTITY_CLAMPED = "refund_quantity_clamped"  # more refunded than ordered
    REFUND_DROPPED = "refund_dropped"  # a refund without a product, left out as the mapping says
    REFUND_EXCEEDS_TOTAL = "refund_exceeds_total"  # more money refunded than was paid
    SUM_MISMATCH = "sum_mismatch"  # lines + tax + shipping differ from the total by more than a minor unit a line
    LOOKUP_MISSING = "lookup_missing"  # a looked-up row that never arrived counts as missing


class WaitingReason(StrEnum):
    """Which needed part has not arrived. The metric's closed label set."""

    NO_ROOT = "no_root"
    ABSENT_ROW = "absent_row"
    UNKNOWN_VALUE = "unknown_value"
    NO_PRODUCTS = "no_products"


@dataclass(frozen=True, slots=True)
class Document:
    """One order as the API gets it: `body` is its canonical JSON, `digest` the SHA-256 of that.

    `placed_at` is its time of purchase in epoch seconds; `zero`: its purchase total is 0.
    """

    order_id: str
    body: bytes
    digest: bytes
    placed_at: float
    zero: bool


@dataclass(frozen=True, slots=True)
class Ready:
    """The order can be sent. `oddities` are `Oddity` members, one entry for each time it was met."""

    document: Document
    oddities: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Voided:
    """The mapping's `void:` holds: the order is cancelled. `tag` is the tag that its last document gets."""

    tag: str


@dataclass(frozen=True, slots=True)
class Ineligible:
    """A condition of the mapping is false: not an order (yet, or any more), or none of this destination.

    `reason` names the condition: `when`, or `destinations.NAME.when`.
    """

    reason: str = "when"


@dataclass(frozen=True, slots=True)
class Deleted:
    """The root row is deleted."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """A needed part has not arrived. `detail` names source, relation, column or key; never a row value."""

    reason: WaitingReason
    detail: str


@dataclass(frozen=True, slots=True)
class Invalid:
    """No document can be made of this order. Each problem names place, attribute and expression, never a row value."""

    problems: tuple[str, ...]


Outcome: TypeAlias = Ready | Voided | Ineligible | Deleted | Waiting | Invalid
