"""Hides personal values in what commands print. Pure; one rule for rows and documents, by the name alone.

A value is hidden where the name of its column or attribute, or of one above it, contains `email`, `phone`, `name`,
`address` or `street`, or has `ip`, `zip`, `postcode`, `city`, `birthday`, `vat`, `company` or `recipient` as a word of
its own; in texts that are JSON, too. The rule is coarse on purpose: it hides a product's name too, and it does not know
what stands in a free text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

MASKED = "***"
_PERSONAL = re.compile(
    r"e_?mail|phone|name|address|street|(^|_)(ip|zip|postcode|postal_code|city|birthday|dob|vat|company|recipient)(_|$)",
    re.IGNORECASE,
)


def masked(value: Any, name: str = "") -> Any:
    """`value` with every personal leaf replaced; nulls stay, so that what is missing can be seen."""
    if isinstance(value, dict):
        return {key: masked(item, f"{name}.{key}" if is_personal(name) else key) for key, item in value.items()}
    if isinstance(value, list):
        return [masked(item, name) for item in value]
    if value is not None and is_personal(name):
        return MASKED
    return _masked_json(value) if isinstance(value, str) and value[:1] in ("{", "[") else value


def unpersonal(text: str, document: dict[str, Any]) -> str:
    """`text` without the personal values of a document, as far as they stand in it word for word."""
    for value in sorted(set(_leaves(document)), key=len, reverse=True):
        if len(value) > 1:
            text = text.replace(value, MASKED)
    return text


def _leaves(value: Any, name: str = "") -> Iterator[str]:
    """The texts that `masked` would hide."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _leaves(item, f"{name}.{key}" if is_personal(name) else key)
    elif isinstance(value, list):
        for item in value:
            yield from _leaves(item, name)
    elif isinstance(value, str) and is_personal(name):
        yield value


def _masked_json(text: str) -> str:
    """JSON text with its personal leaves replaced; any other text, and JSON that holds none, as it is."""
    try:
        told = json.loads(text, parse_float=Decimal)
    except (ValueError, RecursionError):
        return text
    hidden = masked(told)
    return text if hidden == told else json.dumps(hidden, ensure_ascii=False, default=str)


def is_personal(name: str) -> bool:
    """Whether a column of that name is taken for personal."""
    return _PERSONAL.search(name.replace(".", "_")) is not None
