"""From the end of a POST to a verdict: whose fault it was, and what happens to its orders. A pure table.

Sources: design.md's table of answers; the error envelopes that the vendor documents (`status` and `response`, where
`response` is text or JSON inside a string) and those seen elsewhere (a list, `detail`, `errors`, `error`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import StrEnum
from typing import Any

import orjson

MAX_DEPTH = 5  # of an error body: deeper ones are nobody's envelope
MAX_DETAIL = 300
MAX_PAUSE_SECS = 3600.0
"""A vendor that asks for more than an hour is tried after an hour."""


class Trouble(StrEnum):
    """How a POST ended without an answer."""

    NOT_SENT = "not_sent"  # never connected, or no byte of the request was written
    TIMED_OUT = "timed_out"  # the deadline passed after the first byte
    CUT = "cut"  # the connection ended after the first byte


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back: a status with headers (lower-case names) and body, or else how it failed."""

    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    trouble: Trouble | None = None
    detail: str = ""


class Kind(StrEnum):
    """What a request came to. The metric's closed label set and the stored outcome."""

    ACCEPTED = "accepted"
    REJECTED = "rejected"  # 400, 422: the fault of orders in it
    TOO_LARGE = "too_large"  # 413
    LIMITED = "limited"  # 429
    REFUSED = "refused"  # 401, 403, 404, other 3xx and 4xx: our fault
    NOT_SENT = "not_sent"
    UNKNOWN = "unknown"  # 5xx, 408, a time-out, a cut after the first byte


@dataclass(frozen=True, slots=True)
class Fault:
    """One order that the answer names, and what it says about it."""

    order_id: str
    message: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """`faults`: the orders named (with ACCEPTED: all others were taken). `cause` tells equal failures from others."""

    kind: Kind
    status: int | None = None
    faults: tuple[Fault, ...] = ()
    pause_secs: float | None = None
    cause: str = ""
    detail: str = ""


def verdict_of(answer: Answer, now: datetime) -> Verdict:
    """The verdict on one POST. `now` is the wall clock, for a Retry-After that names a date.

    Whatever the vendor answers, there is a verdict: an answer that cannot be made out leaves the outcome unknown.
    """
    try:
        return _verdict_of(answer, now)
    except Exception as error:  # noqa: BLE001 - no answer may end the loop that serves the other orders
        text = f"the answer cannot be read: {type(error).__name__}"
        return Verdict(Kind.UNKNOWN, answer.status, cause="unreadable", detail=text)


def _verdict_of(answer: Answer, now: datetime) -> Verdict:
    if answer.trouble is not None:
        kind = Kind.NOT_SENT if answer.trouble is Trouble.NOT_SENT else Kind.UNKNOWN
        return Verdict(kind, cause=answer.trouble.value, detail=answer.detail[:MAX_DETAIL])
    status = answer.status or 0
    kind = _kind(status)
    content = _content(answer.body)
    faults = tuple(_faults(content, accepted=kind is Kind.ACCEPTED)) if kind in (Kind.ACCEPTED, Kind.REJECTED) else ()
    pause = _pause(answer.headers, content, now) if kind in (Kind.LIMITED, Kind.UNKNOWN) else None
    detail = "" if kind is Kind.ACCEPTED and not faults else _message(content)
    return Verdict(kind, status, faults, pause, cause=str(status), detail=detail[:MAX_DETAIL])


def _kind(status: int) -> Kind:
    if 200 <= status < 300:
        return Kind.ACCEPTED
    if status in (400, 422):
        return Kind.REJECTED
    if status == 413:
        return Kind.TOO_LARGE
    if status == 429:
        return Kind.LIMITED
    if status == 408 or status >= 500 or status < 200:
        return Kind.UNKNOWN
    return Kind.REFUSED


def _content(body: bytes) -> Any:
    """The body as JSON, with strings that hold JSON opened (twice at most), else as text."""
    text: Any = body.decode("utf-8", "replace").strip()
    for _ in range(3):
        opened = _opened(text)
        if opened is text:
            break
        text = opened
    return text


def _opened(value: Any) -> Any:
    if not isinstance(value, str) or value[:1] not in ("[", "{", '"'):
        return value
    try:
        return orjson.loads(value)
    except ValueError:
        return value


# Members under which envelopes keep their list of errors.
_NESTED = ("response", "detail", "details", "errors", "error", "message")


def _entries(content: Any, depth: int = 0) -> Iterator[dict[str, Any]]:
    """Every object in the body that may speak about one order."""
    if depth > MAX_DEPTH:
        return
    content = _content(content.encode()) if isinstance(content, str) else content
    if isinstance(content, list):
        for item in content:
            yield from _entries(item, depth + 1)
    elif isinstance(content, dict):
        if isinstance(content.get("order_id"), str | int) and not isinstance(content["order_id"], bool):
            yield content
        else:
            for name in _NESTED:
                if isinstance(content.get(name), list | dict | str):
                    yield from _entries(content[name], depth + 1)


def _faults(content: Any, *, accepted: bool) -> Iterator[Fault]:
    """The orders named as wrong, each once. Places such as `$[3]` are not trusted: their base is not documented.

    In an `accepted` answer a message alone ("queued") is no complaint: it takes an error, a code or a place.
    """
    seen: dict[str, list[str]] = {}
    for entry in _entries(content):
        says: list[Any] = [entry.get(name) for name in ("message", "msg", "error", "detail")]
        text: str = next((one for one in says if isinstance(one, str) and one), "")
        marked = any(entry.get(name) for name in ("json_path", "loc", "code", "type", "errors", "error"))
        if not marked and (accepted or not text):
            continue  # an object with an order id that says nothing wrong: an echo of what was sent
        path: Any = entry.get("json_path")
        place: str = f" ({path})" if isinstance(path, str) and path else ""
        seen.setdefault(str(entry["order_id"]), []).append((text or "named without a message") + place)
    for order_id, texts in seen.items():
        yield Fault(order_id, "; ".join(texts)[:MAX_DETAIL])


def _message(content: Any, depth: int = 0) -> str:
    """A short text of what the vendor said, for a person."""
    if isinstance(content, str):
        return content
    if depth > MAX_DEPTH:
        return ""
    if isinstance(content, dict):
        for name in ("response", "message", "error", "detail", "msg"):
            if content.get(name):
                return _message(content[name], depth + 1)
    if isinstance(content, list) and content:
        return _message(content[0], depth + 1)
    return ""


def _pause(headers: Mapping[str, str], content: Any, now: datetime) -> float | None:
    """The longest wait that headers or body ask for."""
    asked = [_retry_after(headers.get("retry-after", ""), now)]
    if isinstance(content, dict):
        asked.append(_seconds(content.get("retry_after_seconds", content.get("retry_after"))))
    known = [secs for secs in asked if secs is not None]
    return min(max(known), MAX_PAUSE_SECS) if known else None


def _retry_after(text: str, now: datetime) -> float | None:
    if (secs := _seconds(text)) is not None:
        return secs
    try:
        at = parsedate_to_datetime(text)
    except (OverflowError, TypeError, ValueError):
        return None
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    return max((at - now).total_seconds(), 0.0)


def _seconds(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        secs = float(value)
    except (OverflowError, ValueError):
        return None
    return max(secs, 0.0) if secs < float("inf") else None
