"""The functions of the mapping language, in one registry. `FUNCTIONS` holds usage, meaning and code of each.

Texts, numbers, null: a function of one text or number gives null for null. A missing row counts as null. A value of
the wrong kind is a `Fault`, never a guess. The first line of each docstring is its entry in the reference.
"""

from __future__ import annotations

import base64
import inspect
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any

from daemon.mapping import countries, currencies, identity, times
from daemon.mapping.faults import Fault
from daemon.mapping.graph import Empty, Row, RowList, read_path
from daemon.mapping.kinds import ANY, SHARES, VALUE, Kind, ListKind, item_kind, join_kinds
from daemon.mapping.operators import EXACT, Number, as_text, equal, is_missing, is_number, name_of


@dataclass(frozen=True, slots=True)
class Function:
    """One function: `usage` is its signature, `summary` its meaning; `paths` are the arguments that name columns."""

    name: str
    usage: str
    summary: str
    run: Callable[..., Any]
    kind: Callable[[list[Kind]], Kind]
    paths: tuple[int, ...] = ()
    lazy: bool = False


FUNCTIONS: dict[str, Function] = {}


def _value(_: list[Kind]) -> Kind:
    return VALUE


def _list_of_values(_: list[Kind]) -> Kind:
    return ListKind(VALUE)


def _any(_: list[Kind]) -> Kind:
    return ANY


def _register(
    name: str, kind: Callable[[list[Kind]], Kind] = _value, paths: tuple[int, ...] = (), *, lazy: bool = False
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def add(run: Callable[..., Any]) -> Callable[..., Any]:
        parts = [str(part).split(":")[0] for part in inspect.signature(run).parameters.values()]
        summary = (run.__doc__ or "").strip().split("\n")[0]
        FUNCTIONS[name] = Function(name, f"{name}({', '.join(parts)})", summary, run, kind, paths, lazy)
        return run

    return add


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


def _number(value: Any, what: str) -> Any:
    if is_number(value):
        return value
    hint = "; declare `types: {column: numeric}` or write dec(x)" if isinstance(value, str) else ""
    raise Fault(f"{what} needs a number, not {name_of(value)}{hint}")


def _items(value: Any, what: str) -> Sequence[Any]:
    if isinstance(value, list | tuple):
        return value
    raise Fault(f"{what} needs a list, not {name_of(value)}")


def _text(value: Any, what: str) -> str:
    if isinstance(value, str):
        return value
    raise Fault(f"{what} needs a text, not {name_of(value)}; write text(x)")


def _blank(value: Any) -> bool:
    return is_missing(value) or (isinstance(value, str) and not value.strip())


# numbers


@_register("dec")
def dec(x: Any) -> Number | None:
    """the exact number of a text or number; null and blank text give null"""
    if _blank(x):
        return None
    if isinstance(x, str):
        try:
            number = Decimal(x.strip())
        except InvalidOperation:
            raise Fault("dec(x) of a text that is no number") from None
        if not number.is_finite():
            raise Fault("dec(x) of a text that is no finite number")
        return number
    exact: Number = _number(x, "dec(x)")
    return exact


@_register("int")
def whole(x: Any) -> int | None:
    """the whole number of a text or number; null and blank text give null; a fraction is an error"""
    number = dec(x)
    if number is None:
        return None
    if number != int(number):
        raise Fault("int(x) of a number that is not whole")
    return int(number)


@_register("abs")
def absolute(x: Any) -> Number | None:
    """the number without its sign; null gives null"""
    return None if is_missing(x) else abs(_number(x, "abs(x)"))


def _extreme(name: str, values: tuple[Any, ...], choose: Callable[..., Any]) -> Any:
    items = _items(values[0], f"{name}(list)") if len(values) == 1 and not is_number(values[0]) else values
    known = [item for item in items if not is_missing(item)]
    if not all(is_number(item) for item in known) and not all(isinstance(item, str) for item in known):
        raise Fault(f"{name}(...) needs numbers alone or texts alone")
    return choose(known) if known else None


@_register("max")
def maximum(*values: Any) -> Any:
    """the largest of several values or of one list, nulls left out; of none: null"""
    return _extreme("max", values, max)


@_register("min")
def minimum(*values: Any) -> Any:
    """the smallest of several values or of one list, nulls left out; of none: null"""
    return _extreme("min", values, min)


@_register("total", paths=(1,))
def total(rows: Any, column: str | None = None) -> Number:
    """the sum of a column (or path) over rows, or of a list of numbers; null counts as 0"""
    result: Number = 0
    for row in _items(rows, "total(rows, 'column')"):
        value = row if column is None else read_path(row, column)
        if is_missing(value):
            continue
        number = _number(value, f"total(rows, '{column}')" if column else "total(list)")
        result = result + number if type(result) is int and type(number) is int else EXACT.add(Decimal(result), number)
    return result


@_register("nonzero")
def nonzero(x: Any) -> Any:
    """null for 0, '0' and blank text; anything else as it is"""
    if _blank(x) or (is_number(x) and not x):
        return None
    return None if isinstance(x, str) and x.strip() == "0" else x


@_register("money")
def money(x: Any, currency: Any) -> Decimal | None:
    """rounded half-up to the currency's minor unit; null gives null"""
    if is_missing(x):
        return None
    return currencies.round_money(_number(x, "money(x, currency)"), _text(currency, "money(x, currency)").upper())


@_register("minor")
def minor(x: Any, exponent: Any) -> Decimal | None:
    """minor units to major by a declared exponent: minor(1999, 2) is 19.99; null gives null"""
    if is_missing(x):
        return None
    digits = exponent
    if type(digits) is not int or not 0 <= digits <= 9:
        raise Fault("minor(x, exponent) needs an exponent from 0 to 9")
    return EXACT.scaleb(Decimal(_number(x, "minor(x, exponent)")), -digits)


@_register("allocate", kind=lambda _: SHARES, paths=(2,))
def allocate(amount: Any, rows: Any, weight: str, currency: Any) -> Shares:
    """an amount shared over rows by a weight column, exact to the minor unit: shares[row]"""
    what = "allocate(amount, rows, 'weight', currency)"
    items = _items(rows, what)
    weights = [Decimal(_number(read_path(row, weight), f"{what}: the weight")) for row in items]
    digits = currencies.minor_digits(_text(currency, what).upper())
    try:
        parts = currencies.shares(_number(amount, what), weights, digits)
    except ValueError as error:
        raise Fault(f"{what}: {error}") from error
    return Shares({id(row): part for row, part in zip(items, parts, strict=True)})


# rows and lists


@_register("first", kind=lambda kinds: item_kind(kinds[0]))
def first(rows: Any) -> Any:
    """the first of a list; of rows and none there: the empty row; else null"""
    items = _items(rows, "first(rows)")
    if items:
        return items[0]
    return rows.empty if isinstance(rows, RowList) else None


def _column_kind(kinds: list[Kind]) -> Kind:
    return ListKind(kinds[1])


@_register("col", kind=_column_kind, paths=(1,))
def col(rows: Any, column: str) -> list[Any]:
    """the values of a column (or path) over rows, nulls kept"""
    return [read_path(row, column) for row in _items(rows, "col(rows, 'column')")]


@_register("flat", kind=lambda kinds: kinds[1] if isinstance(kinds[1], ListKind) else ANY, paths=(1,))
def flat(rows: Any, relation: str) -> Any:
    """the rows of a to-many relation of each row, one list after the other"""
    lists = [
        _items(read_path(row, relation), "flat(rows, 'relation')") for row in _items(rows, "flat(rows, 'relation')")
    ]
    found = [item for group in lists for item in group]
    if lists and isinstance(lists[0], RowList):
        return RowList(found, lists[0].empty)
    return found


@_register("pivot", kind=_any, paths=(1, 2))
def pivot(rows: Any, name: str, value: str) -> dict[str, Any]:
    """an object of name column to value column (the first row of a name wins), for attribute tables"""
    made: dict[str, Any] = {}
    for row in _items(rows, "pivot(rows, 'name', 'value')"):
        key = as_text(read_path(row, name))
        if key is not None and key not in made:
            made[key] = read_path(row, value)
    return made


@_register("len")
def length(x: Any) -> int:
    """how many items a list has, or characters a text"""
    if isinstance(x, str | list | tuple | dict):
        return len(x)
    raise Fault(f"len(x) needs a list or a text, not {name_of(x)}")


@_register("uniq", kind=lambda kinds: kinds[0])
def uniq(items: Any) -> list[Any]:
    """the list without nulls, blank texts and repeats, in its order"""
    kept: list[Any] = []
    for item in _items(items, "uniq(list)"):
        if not _blank(item) and not any(type(item) is type(other) and equal(item, other) for other in kept):
            kept.append(item)
    return kept


# texts


@_register("text")
def text(x: Any) -> str | None:
    """canonical text of a number, truth value or text; null gives null"""
    return as_text(x)


@_register("upper")
def upper(x: Any) -> str | None:
    """the text in upper case; null gives null"""
    return None if is_missing(x) else _text(x, "upper(x)").upper()


@_register("lower")
def lower(x: Any) -> str | None:
    """the text in lower case; null gives null"""
    return None if is_missing(x) else _text(x, "lower(x)").lower()


@_register("trim")
def trim(x: Any) -> str | None:
    """the text without blanks at both ends; null gives null"""
    return None if is_missing(x) else identity.trim(_text(x, "trim(x)"))


@_register("split", kind=_list_of_values)
def split(x: Any, separator: Any) -> list[str]:
    """the parts of a text, trimmed, blank ones left out; null gives an empty list"""
    by = _text(separator, "split(x, separator)")
    if not by:
        raise Fault("split(x, separator) needs a separator")
    if is_missing(x):
        return []
    return [part.strip() for part in _text(x, "split(x, separator)").split(by) if part.strip()]


def _texts(items: Sequence[Any]) -> list[str]:
    found = [as_text(item) for item in items]
    return [part.strip() for part in found if part is not None and part.strip()]


@_register("join")
def join(items: Any, separator: Any) -> str | None:
    """the texts of a list put together, blank ones left out; of none: null"""
    parts = _texts(_items(items, "join(list, separator)"))
    return _text(separator, "join(list, separator)").join(parts) if parts else None


@_register("words")
def words(*parts: Any) -> str | None:
    """the texts put together with blanks between, empty ones left out; of none: null"""
    found = _texts(parts)
    return " ".join(found) if found else None


@_register("b64")
def b64(x: Any) -> str | None:
    """base64 of the text's UTF-8; null gives null"""
    plain_text = as_text(x)
    return None if plain_text is None else base64.b64encode(plain_text.encode()).decode()


@_register("sha256")
def sha256(x: Any) -> str | None:
    """SHA-256 of the text's UTF-8 in hex; null gives null"""
    plain_text = as_text(x)
    return None if plain_text is None else identity.sha256_hex(plain_text)


# choices and meanings


@_register("coalesce", kind=lambda kinds: join_kinds(*kinds) if kinds else VALUE, lazy=True)
def coalesce(*values: Callable[[], Any]) -> Any:
    """the first that is neither null nor blank text nor a missing row, later ones unread; 0 counts as a value"""
    last = None
    for value in values:
        last = value()
        if not _blank(last):
            return last
    return last if isinstance(last, Empty) else None


@_register("alpha3")
def alpha3(country: Any) -> str | None:
    """the ISO alpha-3 code of an alpha-2 or alpha-3 code in any case; unknown or null gives null"""
    return None if is_missing(country) else countries.alpha3(_text(country, "alpha3(country)"))


@_register("iso")
def iso(stamp: Any, zone: Any = None) -> str | None:
    """the time in UTC with `Z`; a stamp without offset is read in the named zone; null gives null"""
    if is_missing(stamp):
        return None
    named = None if zone is None else _text(zone, "iso(stamp, zone)")
    try:
        return times.format_time(times.parse_time(_text(stamp, "iso(stamp)"), named))
    except (ValueError, OverflowError) as error:
        raise Fault(f"iso(stamp): {error}") from error


@_register("first_seen")
def first_seen(row: Any) -> str | None:
    """the time at which the row was first seen, in UTC; null where that is not known"""
    if is_missing(row):
        return None
    if not isinstance(row, Row):
        raise Fault(f"first_seen(row) needs a row, not {name_of(row)}")
    seen = row.stored.first_seen_ms
    return None if seen is None else times.format_time(times.from_epoch_ms(seen))


@_register("parse", kind=_any)
def parse(x: Any) -> Any:
    """JSON text as lists, objects and exact numbers; null and blank text give null"""
    if _blank(x):
        return None
    if isinstance(x, dict | list):
        return x
    try:
        return json.loads(_text(x, "parse(x)"), parse_float=Decimal, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        raise Fault("parse(x) of a text that is not JSON") from None


def _no_constant(name: str) -> None:
    raise ValueError(name)


@_register("guest")
def guest(email: Any) -> str | None:
    """a stable customer id `guest_...` from an e-mail address (or phone number); null and blank give null"""
    return None if _blank(email) else identity.guest_id(_text(email, "guest(email)"))
