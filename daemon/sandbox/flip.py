"""Sabotage for proofs that a comparison would notice: one attribute of one stored document is changed. Pure."""

from __future__ import annotations

from decimal import Decimal

from daemon.sandbox.exact import Number, read, written


def flip(raw: bytes, attribute: str) -> bytes:
    """The same document with a top-level number one hundredth higher, or a text one letter longer.

    Every other number keeps its digits. Raises ValueError where the attribute is absent or of another type.
    """
    document = read(raw)
    match document.get(attribute):
        case Number() as number:
            document[attribute] = Number(format(Decimal(number) + Decimal("0.01"), "f"))
        case str() as text:
            document[attribute] = text + "x"
        case _:
            raise ValueError(f"the order has no number or text `{attribute}`")
    return written(document)
