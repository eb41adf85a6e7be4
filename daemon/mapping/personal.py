"""Which columns and attributes are personal, by their names alone. Pure.

A name is personal that contains `mail`, `phone`, `name`, `address` or `street`, or has `ip`, `zip`, `postcode`,
`city`, `birthday`, `vat`, `company` or `recipient` as a word of its own. The rule is coarse on purpose: it takes a
product's name for personal too, and it does not know what stands in a free text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import orjson

_PERSONAL = re.compile(
    r"mail|phone|name|address|street|(^|_)(ip|zip|postcode|postal_code|city|birthday|dob|vat|company|recipient)(_|$)",
    re.IGNORECASE,
)


def is_personal(name: str) -> bool:
    """Whether a column of that name is taken for personal."""
    return _PERSONAL.search(name.replace(".", "_")) is not None


def without_leaves(value: Any, instead: Any, name: str = "") -> Any:
    """`value` with every personal leaf replaced; nulls stay, so that what is missing can be seen."""
    if isinstance(value, dict):
        return {
            key: without_leaves(item, instead, f"{name}.{key}" if is_personal(name) else key)
            for key, item in value.items()
        }
    if isinstance(value, list):
        return [without_leaves(item, instead, name) for item in value]
    if value is not None and is_personal(name):
        return instead
    return in_json(value, lambda told: without_leaves(told, instead)) if isinstance(value, str) else value


def in_json(text: str, change: Callable[[Any], Any]) -> str:
    """JSON text with its content changed; any other text, and JSON that stays the same, as it is."""
    if text[:1] not in ("{", "["):
        return text
    try:
        told = json.loads(text, parse_float=Decimal)
    except (ValueError, RecursionError):
        return text
    changed = change(told)
    if changed == told:
        return text
    try:
        return orjson.dumps(changed, default=lambda number: orjson.Fragment(format(number, "f"))).decode()
    except TypeError:  # an integer beyond 64 bits: without its digits
        return json.dumps(changed, ensure_ascii=False, default=str)
