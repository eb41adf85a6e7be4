"""The byte ledger of one API key, as plain data.

The vendor counts a request when it arrives, which is some time between our reserving it and its answer. So its bytes
count here from the reserve to the answer plus one window; without an answer, to the end of its hold plus one window.
Whatever the moments of arrival, no window as the vendor sees it then holds more than the budget. Refused requests
count too. Only one of which no byte was written is forgotten.

The void guard counts by the same entries: what a request may have zeroed counts for an hour after its bytes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from daemon.state.schedule import Lane

GUARD_SECS = 3600.0
"""The void guard's sliding window: its setting is a number of orders per hour."""


@dataclass(frozen=True, slots=True)
class Entry:
    """Bytes of request `number`, counting until the monotonic time `until`; None while its end is not known.

    `zeroed` of its orders may have gone from a total to 0.
    """

    number: int
    lane: Lane
    size: int
    until: float | None = None
    zeroed: int = 0


@dataclass(frozen=True, slots=True)
class Shares:
    """The budget of one window, and the parts of it that a lane can always get."""

    budget: int
    live: float
    backfill: float


@dataclass(frozen=True, slots=True)
class Ledger:
    """All requests that count at some moment."""

    entries: tuple[Entry, ...] = ()

    def reserve(self, number: int, lane: Lane, size: int, zeroed: int = 0) -> Ledger:
        """A request is about to start."""
        return Ledger((*self.entries, Entry(number, lane, size, zeroed=zeroed)))

    def reduce(self, number: int, zeroed: int) -> Ledger:
        """No more than so many of its orders go from a total to 0."""
        return self._changed(number, lambda entry: replace(entry, zeroed=zeroed))

    def close(self, number: int, until: float) -> Ledger:
        """Its end is known: it counts until then."""
        return self._changed(number, lambda entry: replace(entry, until=until))

    def _changed(self, number: int, change: Callable[[Entry], Entry]) -> Ledger:
        return Ledger(tuple(change(entry) if entry.number == number else entry for entry in self.entries))

    def forget(self, number: int) -> Ledger:
        """No byte of it was written."""
        return Ledger(tuple(entry for entry in self.entries if entry.number != number))

    def trimmed(self, now: float) -> Ledger:
        """Without what counts no more; itself where all still counts."""
        kept = tuple(entry for entry in self.entries if _counts(entry, now) or _guards(entry, now))
        return self if len(kept) == len(self.entries) else Ledger(kept)

    def used(self, now: float, lane: Lane | None = None) -> int:
        """Bytes that count at `now`, of one lane or of both."""
        total = 0  # asked for with every step: a loop is twice as fast as a sum
        for entry in self.entries:
            if (entry.until is None or entry.until >= now) and (lane is None or entry.lane == lane):
                total += entry.size
        return total

    def zeroed(self, now: float) -> int:
        """Orders that may have gone from a total to 0 within the last hour."""
        return sum(entry.zeroed for entry in self.entries if _guards(entry, now))

    def room(self, now: float, lane: Lane, shares: Shares, *, backfill_waits: bool) -> int:
        """Bytes that a request of `lane` may have now.

        What live's share has left is never given to the backfill, so that a fresh change finds room at once. The
        backfill's is kept from live only while something waits in the backfill.
        """
        used = self.used(now)
        if used == 0:
            return shares.budget  # one document above every share must still pass, alone
        if lane is Lane.LIVE:
            kept = int(shares.budget * shares.backfill) - self.used(now, Lane.BACKFILL) if backfill_waits else 0
        else:
            kept = int(shares.budget * shares.live) - self.used(now, Lane.LIVE)
        return max(shares.budget - used - max(kept, 0), 0)


def _counts(entry: Entry, now: float) -> bool:
    return entry.until is None or entry.until >= now


def _guards(entry: Entry, now: float) -> bool:
    return entry.zeroed > 0 and (entry.until is None or entry.until + GUARD_SECS >= now)
