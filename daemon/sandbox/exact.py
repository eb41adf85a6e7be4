"""Documents read and written again with every number as it was written. Pure."""

from __future__ import annotations

import json
from typing import Any


class Number(str):
    """A JSON number as it was written; it is written back unchanged."""

    __slots__ = ()


def read(raw: bytes) -> dict[str, Any]:
    """A document, with its numbers as texts of their own kind."""
    document: dict[str, Any] = json.loads(raw, parse_float=Number, parse_int=Number)
    return document


def written(document: dict[str, Any]) -> bytes:
    """Its bytes."""
    return _written(document).encode("utf-8")


def _written(value: Any) -> str:
    match value:
        case Number():
            return str(value)
        case dict():
            return "{" + ",".join(f"{json.dumps(name)}:{_written(part)}" for name, part in value.items()) + "}"
        case list():
            return "[" + ",".join(map(_written, value)) + "]"
        case _:
            return json.dumps(value)


def patched(raw: bytes, patch: bytes) -> bytes:
    """The document after a PATCH: what that names is replaced whole, what it names with null is gone."""
    document = read(raw) | read(patch)
    return written({name: value for name, value in document.items() if value is not None})
