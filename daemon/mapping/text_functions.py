"""Functions over texts, codes and times, and the choice of the first value."""

from __future__ import annotations

import base64
import json
import uuid
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any

from daemon.mapping import countries, identity, times
from daemon.mapping.faults import Fault
from daemon.mapping.graph import Empty
from daemon.mapping.kinds import VALUE, join_kinds
from daemon.mapping.operators import as_text, is_missing, is_number
from daemon.mapping.registry import any_kind, is_blank, items_of, register, text_of, values_kind

UUID_BYTES = 16
SUBSCRIPTION_TAGS = {
    "first": "Subscription First Order",
    "recurring": "Subscription Recurring",
    "other": "Subscription",
}
"""The names that the provider's dashboards come pre-mapped with (its pages on subscriptions); one for each stage."""


@register("text")
def text(x: Any) -> str | None:
    """canonical text of a number, truth value or text; null gives null"""
    return as_text(x)


@register("upper")
def upper(x: Any) -> str | None:
    """the text in upper case; null gives null"""
    return None if is_missing(x) else text_of(x, "upper(x)").upper()


@register("lower")
def lower(x: Any) -> str | None:
    """the text in lower case; null gives null"""
    return None if is_missing(x) else text_of(x, "lower(x)").lower()


@register("trim")
def trim(x: Any) -> str | None:
    """the text without blanks at both ends; null gives null"""
    return None if is_missing(x) else identity.trim(text_of(x, "trim(x)"))


@register("split", kind=values_kind)
def split(x: Any, separator: Any) -> list[str]:
    """the parts of a text, trimmed, blank ones left out; null gives an empty list"""
    by = text_of(separator, "split(x, separator)")
    if not by:
        raise Fault("split(x, separator) needs a separator")
    if is_missing(x):
        return []
    return [part.strip() for part in text_of(x, "split(x, separator)").split(by) if part.strip()]


def _texts(items: Sequence[Any]) -> list[str]:
    found = [as_text(item) for item in items]
    return [part.strip() for part in found if part is not None and part.strip()]


@register("join")
def join(items: Any, separator: Any) -> str | None:
    """the texts of a list put together, blank ones left out; of none: null"""
    parts = _texts(items_of(items, "join(list, separator)"))
    return text_of(separator, "join(list, separator)").join(parts) if parts else None


@register("words")
def words(*parts: Any) -> str | None:
    """the texts put together with blanks between, empty ones left out; of none: null"""
    found = _texts(parts)
    return " ".join(found) if found else None


@register("b64")
def b64(x: Any) -> str | None:
    """base64 of the text's UTF-8; null gives null"""
    plain_text = as_text(x)
    return None if plain_text is None else base64.b64encode(plain_text.encode()).decode()


def _bytes_of(x: Any, what: str) -> bytes | None:
    if is_blank(x):
        return None
    try:
        return base64.b64decode(text_of(x, what), validate=True)
    except ValueError:
        raise Fault(f"{what} needs a binary column: base64, as it is stored") from None


@register("hex")
def hex_(x: Any) -> str | None:
    """a binary column (such as binary(16)) in lower-case hex; null and blank give null"""
    raw = _bytes_of(x, "hex(x)")
    return None if raw is None else raw.hex()


@register("uuid")
def uuid_(x: Any) -> str | None:
    """a binary column of 16 bytes in a UUID's spelling; null and blank give null"""
    raw = _bytes_of(x, "uuid(x)")
    if raw is not None and len(raw) != UUID_BYTES:
        raise Fault(f"uuid(x) needs {UUID_BYTES} bytes")
    return None if raw is None else str(uuid.UUID(bytes=raw))


@register("sha256")
def sha256(x: Any) -> str | None:
    """SHA-256 of the text's UTF-8 in hex; null gives null"""
    plain_text = as_text(x)
    return None if plain_text is None else identity.sha256_hex(plain_text)


@register("coalesce", kind=lambda kinds: join_kinds(*kinds) if kinds else VALUE, lazy=True)
def coalesce(*values: Callable[[], Any]) -> Any:
    """the first that is neither null nor blank text nor a missing row, later ones unread; 0 counts as a value"""
    last = None
    for value in values:
        last = value()
        if not is_blank(last):
            return last
    return last if isinstance(last, Empty) else None


@register("alpha3")
def alpha3(country: Any) -> str | None:
    """the ISO alpha-3 code of an alpha-2 or alpha-3 code or an English name, in any case; unknown or null gives null"""
    return None if is_missing(country) else countries.alpha3(text_of(country, "alpha3(country)"))


@register("iso")
def iso(stamp: Any, zone: Any = None) -> str | None:
    """the time in UTC with `Z`; a stamp without offset is read in the named zone; null gives null"""
    if is_missing(stamp):
        return None
    if is_number(stamp):
        raise Fault("iso(stamp) of a number; declare the column's type under `types:`, such as timestamp(3)")
    named = None if zone is None else text_of(zone, "iso(stamp, zone)")
    try:
        return times.utc_text(text_of(stamp, "iso(stamp)"), named)
    except (ValueError, OverflowError) as error:
        raise Fault(f"iso(stamp): {error}") from error


@register("parse", kind=any_kind)
def parse(x: Any) -> Any:
    """JSON text as lists, objects and exact numbers; null and blank text give null"""
    if is_blank(x):
        return None
    if isinstance(x, dict | list):
        return x
    try:
        return _read_json(text_of(x, "parse(x)"))
    except (ValueError, RecursionError):
        raise Fault("parse(x) of a text that is not JSON") from None


def _no_constant(name: str) -> None:
    raise ValueError(name)


# `json.loads` would make a decoder for every text.
_read_json = json.JSONDecoder(parse_float=Decimal, parse_constant=_no_constant).decode


@register("guest")
def guest(email: Any) -> str | None:
    """a stable customer id `guest_...` from an e-mail address (or phone number); null and blank give null"""
    return None if is_blank(email) else identity.guest_id(text_of(email, "guest(email)"))


@register("subscription")
def subscription(stage: Any) -> str | None:
    """the tag that dashboards know for a stage: 'first', 'recurring' or 'other'; null gives null"""
    if is_missing(stage):
        return None
    tag = SUBSCRIPTION_TAGS.get(text_of(stage, "subscription(stage)"))
    if tag is None:
        raise Fault(f"subscription(stage) needs one of {', '.join(map(repr, SUBSCRIPTION_TAGS))}")
    return tag
