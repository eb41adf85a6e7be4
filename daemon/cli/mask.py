"""Hides personal values in what `show` prints. Pure; one rule for rows and documents, by the name alone.

A value is hidden where the name of its column or attribute, or of one above it, contains `email`, `phone`, `name`,
`address` or `street`, or has `ip`, `zip`, `postcode` or `recipient` as a word of its own. The rule is coarse on
purpose: it hides a product's name too, and it does not know what stands in a free text.
"""

from __future__ import annotations

import re
from typing import Any

MASKED = "***"
_PERSONAL = re.compile(r"email|phone|name|address|street|(^|_)(ip|zip|postcode|recipient)(_|$)", re.IGNORECASE)


def masked(value: Any, name: str = "") -> Any:
    """`value` with every personal leaf replaced; nulls stay, so that what is missing can be seen."""
    if isinstance(value, dict):
        return {key: masked(item, f"{name}.{key}" if _personal(name) else key) for key, item in value.items()}
    if isinstance(value, list):
        return [masked(item, name) for item in value]
    return MASKED if value is not None and _personal(name) else value


def _personal(name: str) -> bool:
    return _PERSONAL.search(name.replace(".", "_")) is not None
