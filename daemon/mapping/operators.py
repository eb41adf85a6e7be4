"""The operators of the language: exact, and loud where Python or Jinja2 would guess."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import ROUND_HALF_UP, Context, Decimal, DivisionByZero, InvalidOperation, Overflow
from typing import Any

from daemon.mapping.faults import Fault
from daemon.mapping.graph import Empty, Row, RowList

EXACT = Context(prec=38, rounding=ROUND_HALF_UP, traps=[InvalidOperation, DivisionByZero, Overflow])
"""Every operation of the language runs in here: 38 digits hold 10^14 of money with 24 decimals."""

Number = int | Decimal


def plain(value: Number) -> str:
    """A number's canonical text: no exponent, no trailing zeros, no negative zero."""
    if type(value) is int:
        return str(value)
    text = str(value)
    if "E" in text:
        text = format(value, "f")
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return "0" if text in {"-0", ""} else text


def is_number(value: object) -> bool:
    """Whether this is a number of the language: int or finite Decimal, and no bool."""
    kind = type(value)
    return kind is int or (kind is Decimal and value.is_finite())  # type: ignore[attr-defined]


def is_missing(value: object) -> bool:
    """Whether this is null, or the empty row of a missing hop."""
    return value is None or type(value) is Empty


def name_of(value: object) -> str:
    """What a value is, for a message that must not hold the value."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true or false"
    names = {int: "a number", Decimal: "a number", str: "text", dict: "an object", Row: "a row", Empty: "a missing row"}
    return "a list" if isinstance(value, list | tuple) else names.get(type(value), f"a {type(value).__name__}")


def _not_numbers(sign: str, *operands: object) -> Fault:
    for operand in operands:
        if is_missing(operand):
            return Fault(f"null in `{sign}`; write (x or 0) or coalesce(x, 0) where null means nothing")
    for operand in operands:
        if isinstance(operand, str):
            return Fault(
                f"text in `{sign}`: declare `types: {{column: numeric}}` under its source or write dec(x);"
                " texts are put together with `~`"
            )
    kinds = " and ".join(name_of(operand) for operand in operands)
    return Fault(f"`{sign}` needs numbers, not {kinds}")


def _arithmetic(
    sign: str, whole: Callable[[Any, Any], Any] | None, exact: Callable[[Any, Any], Decimal]
) -> Callable[[Any, Any], Any]:
    def operate(left: Any, right: Any) -> Any:
        if whole is not None and type(left) is int and type(right) is int:
            return whole(left, right)
        if not (is_number(left) and is_number(right)):
            raise _not_numbers(sign, left, right)
        try:
            return exact(left, right)
        except DivisionByZero:
            raise Fault("division by zero; write `x / y if y else ...`") from None
        except InvalidOperation:
            raise Fault("division of zero by zero; write `x / y if y else ...`") from None
        except Overflow:
            raise Fault(f"the result of `{sign}` is too large") from None

    return operate


_add_numbers = _arithmetic("+", lambda left, right: left + right, EXACT.add)
subtract = _arithmetic("-", lambda left, right: left - right, EXACT.subtract)
multiply = _arithmetic("*", lambda left, right: left * right, EXACT.multiply)
divide = _arithmetic("/", None, EXACT.divide)


def add(left: Any, right: Any) -> Any:
    """The sum of two numbers, or one list after the other."""
    if isinstance(left, list | tuple) and isinstance(right, list | tuple):
        if isinstance(left, RowList) and isinstance(right, RowList) and left.empty is right.empty:
            return RowList((*left, *right), left.empty)
        return [*left, *right]
    return _add_numbers(left, right)


def negate(value: Any) -> Any:
    """The number with the other sign."""
    if not is_number(value):
        raise _not_numbers("-", value)
    return -value if type(value) is int else EXACT.minus(value)


def as_text(value: Any) -> str | None:
    """Canonical text of a value; null stays null. Raises Fault for rows, lists and objects."""
    if type(value) is str:
        return value
    if is_missing(value):
        return None
    if isinstance(value, bool):
        return "true" if value else "false"
    if is_number(value):
        return plain(value)
    raise Fault(f"{name_of(value)} has no text; name one of its columns")


def concat(parts: Sequence[Any]) -> str:
    """`~`: the texts one after the other. Null is a fault: `'Order:' ~ none` would name an order that is not."""
    texts = [as_text(part) for part in parts]
    if None in texts:
        raise Fault("null in `~`; use words(...) to skip what is null, or coalesce(x, '')")
    return "".join(text for text in texts if text is not None)


def equal(left: Any, right: Any) -> bool:
    """`==`. Null equals null alone; text never equals a number in silence."""
    if type(left) is type(right):
        return bool(left == right)
    if is_missing(left) or is_missing(right):
        return is_missing(left) and is_missing(right)
    if (type(left) is str and is_number(right)) or (type(right) is str and is_number(left)):
        raise Fault("text compared with a number; declare `types: {column: numeric}`, or write dec(x) or text(x)")
    return bool(left == right)


def unequal(left: Any, right: Any) -> bool:
    """`!=`."""
    return not equal(left, right)


def _ordering(sign: str, compare: Callable[[Any, Any], bool]) -> Callable[[Any, Any], bool]:
    def operate(left: Any, right: Any) -> bool:
        if (type(left) is str and type(right) is str) or (is_number(left) and is_number(right)):
            return compare(left, right)
        raise _not_numbers(sign, left, right)

    return operate


less = _ordering("<", lambda left, right: left < right)
less_equal = _ordering("<=", lambda left, right: left <= right)
greater = _ordering(">", lambda left, right: left > right)
greater_equal = _ordering(">=", lambda left, right: left >= right)


def contains(item: Any, container: Any) -> bool:
    """`in`: an item of a list, a member of an object, or a part of a text."""
    if isinstance(container, list | tuple):
        return any(equal(item, other) for other in container)
    if isinstance(container, dict):
        return item in container
    if isinstance(container, str) and isinstance(item, str):
        return item in container
    raise Fault(f"`in` needs a list, an object or a text on its right, not {name_of(container)}")


def not_contains(item: Any, container: Any) -> bool:
    """`not in`."""
    return not contains(item, container)
