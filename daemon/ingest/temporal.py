"""Dates, times, timestamps and intervals: from Debezium's counts and ISO texts to the mirror's texts.

Timestamps without zone read `2026-03-01T08:00:10.015`, with zone the same in UTC with `Z`; fractions carry no trailing
zeros. Converters raise `UnreadableError`.
"""

from __future__ import annotations

import functools
import re
from datetime import UTC, date, datetime
from typing import Any

from daemon.ingest.change import ColumnValue
from daemon.ingest.values import Converter, misfit

MILLIS, MICROS, NANOS = 10**3, 10**6, 10**9

_EPOCH_ORDINAL = date(1970, 1, 1).toordinal()
_DAY_SECONDS = 86_400
_INFINITE_TIMESTAMP = 9_223_372_036_825_200_000  # the driver's stand-in for infinity, and all beyond it
_INFINITE_DATE = 2**31 - 1
_INFINITE_DATES = {  # PostgreSQL's two, counted from 2000, whose count from 1970 overflows in the connector
    10_957 - 2**31 - 1: "infinity",
    10_957 - 2**31: "-infinity",
}
_MONTH_MICROS = 2_629_800 * MICROS  # Debezium's average month, 365.25 / 12 days
_is_canonical_zoned = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d*[1-9])?Z").fullmatch
_TIMESTAMP = re.compile(r"([+-]?\d{4,9}-\d\d-\d\d)[T ](\d\d:\d\d)(:\d\d)?(?:\.(\d+))?(Z|[+-]\d\d(?::?\d\d)?)?")
_TIME = re.compile(r"(-?\d{2,3}:\d\d)(:\d\d)?(?:\.(\d+))?(Z|[+-]\d\d(?::?\d\d)?)?")
_DATE = re.compile(r"([+-]?\d{4,9}-\d\d-\d\d)Z?")
_INTERVAL = re.compile(
    r"P(?:(-?\d+)Y)?(?:(-?\d+)M)?(?:(-?\d+)D)?(?:T(?:(-?\d+)H)?(?:(-?\d+)M)?(?:(-?\d+)(?:\.(\d{1,9}))?S)?)?"
)
_INFINITIES = ("infinity", "-infinity")


def timestamp(per_second: int) -> Converter:
    """A timestamp without zone, from a count since 1970 in the given unit or from its ISO text."""

    def convert(value: Any) -> ColumnValue:
        if type(value) is int:
            return _timestamp_text(value, per_second)
        return local_timestamp(value)

    return convert


def local_timestamp(value: Any) -> ColumnValue:
    """A timestamp without zone from ISO text. Debezium's IsoTimestamp ends it with Z all the same."""
    match = _matched(_TIMESTAMP, value, "a timestamp")
    return match if isinstance(match, str) else _joined(match)


def declared_timestamp(per_second: int) -> Converter:
    """Like `timestamp`, but a text with a zone is one with a zone: MySQL's `timestamp` is."""

    def convert(value: Any) -> ColumnValue:
        if type(value) is int:
            return _timestamp_text(value, per_second)
        if type(value) is str and (value[-1:] == "Z" or "+" in value[10:] or "-" in value[10:]):
            return zoned_timestamp(value)
        return local_timestamp(value)

    return convert


def zoned_timestamp(value: Any) -> ColumnValue:
    """A timestamp with zone, brought to UTC."""
    if type(value) is str and _is_canonical_zoned(value):
        return value
    match = _matched(_TIMESTAMP, value, "a timestamp with time zone")
    if isinstance(match, str):
        return match
    zone = match[5]
    if zone is None:
        raise misfit(value, "a timestamp with time zone")
    if zone == "Z" or not zone.strip("+-0:"):
        return _joined(match) + "Z"
    try:
        whole = datetime.fromisoformat(f"{match[1]}T{match[2]}{match[3] or ':00'}{zone}").astimezone(UTC)
    except (ValueError, OverflowError):
        raise misfit(value, "a timestamp with time zone") from None
    return whole.isoformat()[:-6] + _fraction(match[4]) + "Z"


def time_of_day(per_second: int) -> Converter:
    """A time from a count since midnight in the given unit or ISO text. MySQL's may be negative or over 24 h."""

    def convert(value: Any) -> ColumnValue:
        if type(value) is not int:
            return local_time(value)
        seconds, rest = divmod(abs(value), per_second)
        minutes, second = divmod(seconds, 60)
        sign = "-" if value < 0 else ""
        fraction = _rest(rest, per_second) if rest else ""
        return f"{sign}{minutes // 60:02}:{minutes % 60:02}:{second:02}{fraction}"

    return convert


def local_time(value: Any) -> ColumnValue:
    """A time without zone from ISO text; Debezium's IsoTime ends it with Z all the same."""
    match = _matched(_TIME, value, "a time")
    return match if isinstance(match, str) else f"{match[1]}{match[2] or ':00'}{_fraction(match[3])}"


def zoned_time(value: Any) -> ColumnValue:
    """A time with zone. Debezium brings it to UTC itself."""
    match = _matched(_TIME, value, "a time with time zone")
    return match if isinstance(match, str) else f"{match[1]}{match[2] or ':00'}{_fraction(match[3])}{match[4] or ''}"


def day(value: Any) -> ColumnValue:
    """A date from days since 1970 or from its ISO text."""
    if type(value) is int:
        if abs(value) >= _INFINITE_DATE:
            return _INFINITIES[value < 0]
        return _INFINITE_DATES.get(value) or _date_text(value)
    match = _matched(_DATE, value, "a date")
    return match if isinstance(match, str) else match[1]


def duration(per_second: int) -> Converter:
    """An interval in microseconds from a count in the given unit or from Debezium's ISO text (interval mode string)."""

    def convert(value: Any) -> ColumnValue:
        if type(value) is int:
            return value * MICROS // per_second
        match = _matched(_INTERVAL, value, "an interval")
        return match if isinstance(match, str) else _interval_micros(match)

    return convert


def _interval_micros(match: re.Match[str]) -> int:
    years, months, days, hours, minutes, seconds = (int(part or 0) for part in match.groups()[:6])
    fraction = int((match[7] or "").ljust(9, "0")[:6])
    negative = (match[6] or "").startswith("-")
    whole = ((days * 24 + hours) * 60 + minutes) * 60 + seconds
    return (years * 12 + months) * _MONTH_MICROS + whole * MICROS + (-fraction if negative else fraction)


def _timestamp_text(count: int, per_second: int) -> str:
    if abs(count) >= _INFINITE_TIMESTAMP:
        return _INFINITIES[count < 0]
    seconds, rest = divmod(count, per_second)
    days, second = divmod(seconds, _DAY_SECONDS)
    clock = f"T{second // 3600:02}:{second // 60 % 60:02}:{second % 60:02}"
    return _date_text(days) + clock + (_rest(rest, per_second) if rest else "")


@functools.lru_cache(maxsize=4096)
def _date_text(days: int) -> str:
    try:
        return date.fromordinal(_EPOCH_ORDINAL + days).isoformat()
    except (ValueError, OverflowError):
        return _far_date_text(days)


def _far_date_text(days: int) -> str:
    """A date outside the years 1 to 9999, by whole 400-year cycles of the Gregorian calendar."""
    cycles, days = divmod(days, 146_097)
    near = date.fromordinal(_EPOCH_ORDINAL + days)
    return f"{near.year + 400 * cycles:04}{near.isoformat()[4:]}"


def _rest(rest: int, per_second: int) -> str:
    return "." + str(per_second + rest)[1:].rstrip("0")


def _fraction(digits: str | None) -> str:
    kept = (digits or "").rstrip("0")
    return f".{kept}" if kept else ""


def _joined(match: re.Match[str]) -> str:
    return f"{match[1]}T{match[2]}{match[3] or ':00'}{_fraction(match[4])}"


def _matched(pattern: re.Pattern[str], value: Any, wanted: str) -> re.Match[str] | str:
    """The match, or the text itself where it is an infinity."""
    if type(value) is str:
        if value in _INFINITIES:
            return value
        match = pattern.fullmatch(value)
        if match is not None and match[0] != "P":
            return match
    raise misfit(value, wanted)
