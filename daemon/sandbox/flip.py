"""Sabotage for proofs that a comparison would notice: one attribute of one stored document is changed. Pure."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any


class _Number(str):
    """A JSON number as it was written; it is written back unchanged."""

    __slots__ = ()


def flip(raw: bytes, attribute: str) -> bytes:
    """The same document with a top-level number one hundredth higher, or a text one letter longer.

    Every other number keeps its digits. Raises ValueError where the attribute is absent or of another type.
    """
    document: dict[str, Any] = json.loads(raw, parse_float=_Number, parse_int=_Number)
    match document.get(attribute):
        case _Number() as number:
            document[attribute] = _Number(format(Decimal(number) + Decimal("0.01"), "f"))
        case str() as text:
            document[attribute] = text + "x"
        case _:
            raise ValueError(f"the order has no number or text `{attribute}`")
    return _written(document).encode("utf-8")


def _written(value: Any) -> str:
    match value:
        case _Number():
            return str(value)
        case dict():
            return "{" + ",".join(f"{json.dumps(name)}:{_written(part)}" for name, part in value.items()) + "}"
        case list():
            return "[" + ",".join(map(_written, value)) + "]"
        case _:
            return json.dumps(value)
