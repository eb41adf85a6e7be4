"""Functions over numbers and money."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from typing import Any

from daemon.mapping import currencies
from daemon.mapping.faults import Fault
from daemon.mapping.graph import Row, read_path
from daemon.mapping.kinds import SHARES
from daemon.mapping.operators import EXACT, Number, is_missing, is_number, name_of
from daemon.mapping.registry import is_blank, items_of, number_of, register, text_of


class Shares:
    """What `allocate` gives: the share of each row it was handed."""

    __slots__ = ("_parts",)

    def __init__(self, parts: dict[int, Decimal]) -> None:
        self._parts = parts

    def of(self, row: Any) -> Decimal:
        """The share of a row. Raises Fault for anything that was not among the rows."""
        if not isinstance(row, Row) or id(row) not in self._parts:
            raise Fault(f"shares[...] needs one of the rows that allocate(...) was given, not {name_of(row)}")
        return self._parts[id(row)]


@register("dec")
def dec(x: Any) -> Number | None:
    """the exact number of a text or number; null and blank text give null"""
    if is_blank(x):
        return None
    if isinstance(x, str):
        try:
            number = Decimal(x.strip())
        except InvalidOperation:
            raise Fault("dec(x) of a text that is no number") from None
        if not number.is_finite():
            raise Fault("dec(x) of a text that is no finite number")
        return number
    exact: Number = number_of(x, "dec(x)")
    return exact


@register("int")
def whole(x: Any) -> int | None:
    """the whole number of a text or number; null and blank text give null; a fraction is an error"""
    number = dec(x)
    if number is None:
        return None
    if number != int(number):
        raise Fault("int(x) of a number that is not whole")
    return int(number)


@register("abs")
def absolute(x: Any) -> Number | None:
    """the number without its sign; null gives null"""
    return None if is_missing(x) else abs(number_of(x, "abs(x)"))


def _extreme(name: str, values: tuple[Any, ...], choose: Callable[..., Any]) -> Any:
    items = items_of(values[0], f"{name}(list)") if len(values) == 1 and not is_number(values[0]) else values
    known = [item for item in items if not is_missing(item)]
    if not all(is_number(item) for item in known) and not all(isinstance(item, str) for item in known):
        raise Fault(f"{name}(...) needs numbers alone or texts alone")
    return choose(known) if known else None


@register("max")
def maximum(*values: Any) -> Any:
    """the largest of several values or of one list, nulls left out; of none: null"""
    return _extreme("max", values, max)


@register("min")
def minimum(*values: Any) -> Any:
    """the smallest of several values or of one list, nulls left out; of none: null"""
    return _extreme("min", values, min)


@register("total", paths=(1,))
def total(rows: Any, column: str | None = None) -> Number:
    """the sum of a column (or path) over rows, or of a list of numbers; null counts as 0"""
    result: Number = 0
    for row in items_of(rows, "total(rows, 'column')"):
        value = row if column is None else read_path(row, column)
        if is_missing(value):
            continue
        number = number_of(value, f"total(rows, '{column}')" if column else "total(list)")
        result = result + number if type(result) is int and type(number) is int else EXACT.add(result, number)
    return result


@register("nonzero")
def nonzero(x: Any) -> Any:
    """null for 0, '0' and blank text; anything else as it is"""
    if is_blank(x) or (is_number(x) and not x):
        return None
    return None if isinstance(x, str) and x.strip() == "0" else x


@register("money")
def money(x: Any, currency: Any) -> Decimal | None:
    """rounded half-up to the currency's minor unit; null gives null"""
    if is_missing(x):
        return None
    return currencies.round_money(number_of(x, "money(x, currency)"), text_of(currency, "money(x, currency)").upper())


@register("minor")
def minor(x: Any, exponent: Any) -> Decimal | None:
    """minor units to major by a declared exponent: minor(1999, 2) is 19.99; null gives null"""
    if is_missing(x):
        return None
    digits = exponent
    if type(digits) is not int or not 0 <= digits <= 9:
        raise Fault("minor(x, exponent) needs an exponent from 0 to 9")
    return EXACT.scaleb(Decimal(number_of(x, "minor(x, exponent)")), -digits)


@register("allocate", kind=lambda _: SHARES, paths=(2,))
def allocate(amount: Any, rows: Any, weight: str, currency: Any) -> Shares:
    """an amount shared over rows by a weight column, exact to the minor unit: shares[row]"""
    what = "allocate(amount, rows, 'weight', currency)"
    items = items_of(rows, what)
    weights = [Decimal(number_of(read_path(row, weight), f"{what}: the weight")) for row in items]
    digits = currencies.minor_digits(text_of(currency, what).upper())
    try:
        parts = currencies.shares(number_of(amount, what), weights, digits)
    except ValueError as error:
        raise Fault(f"{what}: {error}") from error
    return Shares({id(row): part for row, part in zip(items, parts, strict=True)})
