"""Single column values: from what Debezium writes into JSON to what the mirror keeps (`ColumnValue`).

Every converter takes a value that is not null and returns a `ColumnValue`, or raises `UnreadableError`, whose text
names the JSON type that came and never the value.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from decimal import MAX_EMAX, MAX_PREC, MIN_EMIN, Context, Decimal, InvalidOperation
from typing import Any, TypeAlias

from daemon.ingest.change import ColumnValue, RejectReason
from daemon.mapping.column_types import check_type

__all__ = ["Converter", "InexactError", "UnreadableError", "check_type"]

Converter: TypeAlias = Callable[[Any], ColumnValue]

_EXACT = Context(prec=MAX_PREC, Emin=MIN_EMIN, Emax=MAX_EMAX)
_MAX_DIGITS, _MAX_SCALE = 131_072, 16_383  # before and after the point
_SAFE_DIGITS = 16  # up to 15 digits and a point, a float's shortest text is the number that was written
_SAFE_INTEGER = 2.0**53
_UNSIGNED = 2**64
_DOUBLE_DIGITS = 15
_WRITTEN_DIGITS = 18  # 17 tell every double; one more for the zero of `.0`
_JSON_TYPES = {
    str: "a string",
    bool: "a boolean",
    int: "a number",
    float: "a number",
    dict: "an object",
    list: "a list",
}
_UNSIGNED_CURE = "declare bigint_unsigned_handling_mode: precise if that is what the connector is set to"
_PRECISE_CURE = "declare it as numeric(p,s) under `types:`, or set decimal.handling.mode=string in the connector"


class UnreadableError(ValueError):
    """A value that does not fit its type, or cannot be read without a declaration."""

    def __init__(self, text: str, reason: RejectReason = RejectReason.BAD_VALUE) -> None:
        super().__init__(text)
        self.reason = reason


class InexactError(Exception):
    """A decimal came as a JSON number with more digits than a float keeps: the message is to be read again, exactly."""


def json_type(value: Any) -> str:
    """The JSON type of a value, for messages."""
    return _JSON_TYPES.get(type(value), "a number")


def misfit(value: Any, wanted: str) -> UnreadableError:
    """The error for a value of the wrong shape."""
    return UnreadableError(f"{json_type(value)} cannot be read as {wanted}")


def decimal_number(value: Any) -> ColumnValue:
    """A decimal from its text or from a JSON number; NaN and infinities stay text."""
    if type(value) is str:
        try:
            number = Decimal(value)
        except InvalidOperation:
            raise misfit(value, "a decimal (decimal.handling.mode is declared as string or double)") from None
        return number if number.is_finite() and "E" not in value and "e" not in value else plain(number)
    if type(value) is float:
        text = repr(value)
        if len(text) > _SAFE_DIGITS or not -_SAFE_INTEGER < value < _SAFE_INTEGER:
            raise InexactError
        return Decimal(int(value)) if value.is_integer() else plain(Decimal(text)) if "e" in text else Decimal(text)
    if type(value) is int:
        return Decimal(value)
    if type(value) is Decimal:
        return plain(value)
    if type(value) is dict:
        return variable_scale(value)
    raise misfit(value, "a decimal")


def unscaled(scale: int) -> Converter:
    """Reads base64 of a big-endian two's complement integer, to be divided by 10^scale; also JSON numbers."""
    shift, step = Decimal(-scale), _EXACT.scaleb(Decimal(1), -scale)

    def convert(value: Any) -> ColumnValue:
        if type(value) is str:
            number = _integer(value).scaleb(shift, _EXACT)
            return number if scale >= 0 else plain(number)
        written = decimal_number(value)
        if isinstance(written, Decimal) and scale > 0:
            padded = written.quantize(step, context=_EXACT)
            return padded if padded == written else written
        return written

    return convert


def unscaled_without_scale(value: Any) -> ColumnValue:
    """Like `unscaled` for a decimal declared without a scale: only values that carry their own can be read."""
    if type(value) is str:
        raise UnreadableError(f"an unscaled decimal without its scale; {_PRECISE_CURE}", RejectReason.UNDECLARED_TYPE)
    return decimal_number(value)


def variable_scale(value: Any) -> ColumnValue:
    """io.debezium.data.VariableScaleDecimal: {"scale": int, "value": base64}."""
    if type(value) is not dict:
        return decimal_number(value)
    scale, digits = value.get("scale"), value.get("value")
    if type(scale) is not int or type(digits) is not str or abs(scale) > _MAX_DIGITS:
        raise misfit(value, "a decimal with its own scale (scale, value)")
    return plain(_EXACT.scaleb(_integer(digits), -scale))


def integer(value: Any) -> ColumnValue:
    """An integer, also from its text."""
    if type(value) is int:
        return value
    if type(value) is str and value.removeprefix("-").isdecimal() and value.isascii():
        return int(value)
    raise misfit(value, "an integer")


def unsigned_integer(value: Any) -> ColumnValue:
    """A bigint unsigned as bigint.unsigned.handling.mode=long writes it: what a signed one cannot hold is negative."""
    try:
        number = integer(value)
    except UnreadableError as error:
        raise UnreadableError(f"{error}; {_UNSIGNED_CURE}") from None
    return number + _UNSIGNED if type(number) is int and number < 0 else number


def unscaled_integer(value: Any) -> ColumnValue:
    """A bigint unsigned as bigint.unsigned.handling.mode=precise writes it: a decimal of scale 0 in base64."""
    return int(_integer(value)) if type(value) is str else integer(value)


def beyond_double(value: Any) -> bool:
    """Whether a decimal that came as a JSON number has more digits than a double surely keeps (15).

    To be asked of an exactly parsed document. Text of more digits than a double is ever written with is no double's.
    """
    if type(value) is list:
        return any(map(beyond_double, value))
    if type(value) is not Decimal or not value.is_finite():
        return False
    if len(value.as_tuple().digits) > _WRITTEN_DIGITS:
        return False
    return max(len(value.normalize(_EXACT).as_tuple().digits), value.adjusted() + 1) > _DOUBLE_DIGITS


def boolean(value: Any) -> ColumnValue:
    """A boolean, also from 0 and 1."""
    if type(value) is bool:
        return value
    if type(value) is int and value in (0, 1):
        return value == 1
    raise misfit(value, "a boolean")


def flag(value: Any) -> ColumnValue:
    """A tinyint(1): kept as the number or the boolean that it is."""
    if type(value) in (bool, int):
        return value  # type: ignore[no-any-return] # one of the two
    raise misfit(value, "a tinyint(1)")


def floating(value: Any) -> ColumnValue:
    """A binary floating-point number; NaN and infinities come and stay as text."""
    if type(value) in (float, int, Decimal):
        return value  # type: ignore[no-any-return] # one of the three
    if value in ("NaN", "Infinity", "-Infinity"):
        return str(value)
    raise misfit(value, "a floating-point number")


def hex_bytes(value: Any) -> ColumnValue:
    """binary.handling.mode=hex to plain base64."""
    try:
        return base64.b64encode(bytes.fromhex(value)).decode()
    except (TypeError, ValueError):
        raise misfit(value, "bytes in hex") from None


def url_safe_bytes(value: Any) -> ColumnValue:
    """binary.handling.mode=base64-url-safe to plain base64."""
    if type(value) is not str:
        raise misfit(value, "bytes in base64")
    return value.replace("-", "+").replace("_", "/")


def array(element: Converter) -> Converter:
    """A list whose elements are converted, at any depth; nulls stay."""

    def convert(value: Any) -> ColumnValue:
        if type(value) is not list:
            raise misfit(value, "an array")
        return [None if item is None else convert(item) if type(item) is list else element(item) for item in value]

    return convert


def _integer(digits: str) -> Decimal:
    try:
        return Decimal(int.from_bytes(binascii.a2b_base64(digits, strict_mode=True), "big", signed=True))
    except ValueError:
        raise UnreadableError(
            "a string cannot be read as an unscaled decimal in base64; declare the connector's decimal.handling.mode"
        ) from None


def plain(number: Decimal) -> ColumnValue:
    """A decimal without exponent; the text of one that is not finite. Refuses what PostgreSQL's numeric cannot hold."""
    exponent = number.as_tuple().exponent
    if not isinstance(exponent, int):
        return "NaN" if number.is_nan() else "-Infinity" if number < 0 else "Infinity"
    if not (exponent >= -_MAX_SCALE and number.adjusted() < _MAX_DIGITS):
        raise misfit(number, "a decimal: it has more digits than numeric holds")
    return number.quantize(Decimal(1), context=_EXACT) if exponent > 0 else number
