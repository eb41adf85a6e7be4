"""What the API holds against what it last accepted: the comparison, without reading either. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, timedelta
from enum import StrEnum

from daemon.document.difference import Document, differences
from daemon.mapping.times import parse_time

_PLACED = re.compile(rb'"time_of_purchase":"([^"\\]*)"')
ONE_DAY = timedelta(days=1)


class Kind(StrEnum):
    """How an order drifts. The metric's closed label set."""

    MISSING = "missing"  # accepted, and the API does not show it
    EXTRA = "extra"  # the API shows it, and no record has its id
    DIFFERENT = "different"


@dataclass(frozen=True, slots=True)
class Ours:
    """An order as the state has it. `document`: the last accepted one, None if none ever was.

    `finished`: nothing was attempted since, and the API has had the time to apply what it accepted. Of any other order
    nobody can say what the API should show.
    """

    order_key: str
    order_id: str
    document: Document | None
    finished: bool


@dataclass(frozen=True, slots=True)
class Drift:
    """One order that is not at the API as it was accepted. `attributes` differ; no value is kept."""

    kind: Kind
    order_id: str
    order_key: str | None = None
    attributes: tuple[str, ...] = ()


def compare(ours: Ours | None, theirs: Document) -> Drift | None:
    """How an order that the API shows drifts; None where it does not, or is not finished."""
    if ours is None:
        return Drift(Kind.EXTRA, str(theirs.get("order_id")))
    if ours.document is None or not ours.finished:
        return None
    found = tuple(differences(ours.document, theirs))
    return Drift(Kind.DIFFERENT, ours.order_id, ours.order_key, found) if found else None


def missed(ours: Ours | None) -> Drift | None:
    """The drift of an order that the API does not show, though a record said that it was accepted."""
    if ours is None or ours.document is None or not ours.finished:
        return None
    return Drift(Kind.MISSING, ours.order_id, ours.order_key)


def placed_on(document: bytes | Document) -> date | None:
    """The UTC day of the purchase; None where it cannot be told. Bytes are those of a document that we made."""
    if isinstance(document, bytes):
        match = _PLACED.search(document)
        text = match[1].decode() if match else None
    else:
        text = document.get("time_of_purchase")
    try:
        return parse_time(text, "UTC").astimezone(UTC).date() if isinstance(text, str) else None
    except (ValueError, OverflowError):
        return None


class Days:
    """Which orders of a stretch of days, both ends included, were met in the answers about them.

    Answers may hold orders of the days around (zones, an end that is included or not), and an order twice. Memory grows
    with the orders of the stretch.
    """

    def __init__(self, first: date, last: date) -> None:
        self.first, self.last = first, last
        self._expected: dict[str, date] = {}
        self._met: dict[str, date | None] = {}
        self._seen: set[date] = set()

    def expect(self, order_id: str, placed: date | None) -> None:
        """An accepted order. Those of other days are passed over."""
        if placed is not None and self.first <= placed <= self.last:
            self._expected[order_id] = placed

    def questions(self) -> Iterator[tuple[date, date]]:
        """What to ask for: (start, end) of a day at a time, whatever the API's zone and end."""
        day = self.first - ONE_DAY
        while day <= self.last:
            yield day, day + ONE_DAY
            day += ONE_DAY

    def meets(self, order_id: str, placed: date | None) -> bool:
        """Note an order of an answer; whether it is of these days, or was expected, and is met for the first time."""
        if order_id in self._met:
            return False
        day = self._expected.pop(order_id, placed)
        self._met[order_id] = day
        if day is None or not self.first <= day <= self.last:
            return day is None
        self._seen.add(day)
        return True

    def unmet(self, *, trust_empty: bool) -> Iterator[str]:
        """Expected orders that no answer held; without those of silent days, unless empty answers are trusted."""
        return (order_id for order_id, day in self._expected.items() if trust_empty or day in self._seen)

    def silent(self) -> dict[date, int]:
        """Days of which the API showed no order at all, with how many were accepted."""
        counts: dict[date, int] = {}
        for day in self._expected.values():
            if day not in self._seen:
                counts[day] = counts.get(day, 0) + 1
        return dict(sorted(counts.items()))
