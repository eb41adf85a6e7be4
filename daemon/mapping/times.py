"""Time stamps as the Orders API gets them: UTC with `Z`, milliseconds where they are not zero."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

_in_utc = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2}T(?:[01][0-9]|2[0-3]):[0-9]{2}:[0-9]{2})(?:\.([0-9]{3})[0-9]{0,3})?Z"
).fullmatch


@lru_cache(maxsize=256)
def zone_of(name: str) -> ZoneInfo:
    """The named zone. Raises ValueError."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ValueError("the zone is not known; write one such as 'Europe/Berlin' or 'UTC'") from error


def parse_time(text: str, zone: str | None = None) -> datetime:
    """An aware time from ISO-8601 text.

    A stamp without offset is read in `zone` (an hour that comes twice: the first); without a zone it is refused, as
    is text that is no time. Raises ValueError, whose message holds no value.
    """
    try:
        stamp = datetime.fromisoformat(text.strip())
    except ValueError as error:
        raise ValueError("not an ISO-8601 time") from error
    if stamp.tzinfo is not None:
        return stamp
    if zone is None:
        raise ValueError("a time without offset; name its zone: iso(x, zone='UTC')")
    return stamp.replace(tzinfo=zone_of(zone))


def utc_text(text: str, zone: str | None = None) -> str:
    """The text of `format_time` for a time that `parse_time` reads. Raises as that does, and OverflowError."""
    stamp = parse_time(text, zone)
    written = _in_utc(text)  # nearly always, and cutting it is far quicker than writing it anew
    if written is None:
        return format_time(stamp)
    seconds, milliseconds = written.groups("000")
    return f"{seconds}Z" if milliseconds == "000" else f"{seconds}.{milliseconds}Z"


def format_time(stamp: datetime) -> str:
    """UTC with `Z`; truncated to milliseconds, which are left out when zero."""
    stamp = stamp.astimezone(UTC).replace(tzinfo=None)
    milliseconds = stamp.microsecond // 1000
    return stamp.isoformat(timespec="milliseconds" if milliseconds else "seconds") + "Z"


def from_epoch_ms(milliseconds: int) -> datetime:
    """The aware time at so many milliseconds since the epoch."""
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=milliseconds)
