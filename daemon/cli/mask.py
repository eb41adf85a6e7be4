"""Hides personal values in what commands print. Pure; one rule for rows and documents, by the name alone.

The names are those of `daemon.mapping.personal`; in texts that are JSON, too.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from daemon.mapping.personal import is_personal, without_leaves

MASKED = "***"


def masked(value: Any, name: str = "") -> Any:
    """`value` with every personal leaf hidden; nulls stay, so that what is missing can be seen."""
    return without_leaves(value, MASKED, name)


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
