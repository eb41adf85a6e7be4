"""When a changed order is due. Pure; the same rule stands in `ingest.sql`, and one property test holds both to it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import IntEnum

EPOCH = datetime.fromtimestamp(0, UTC)


class Lane(IntEnum):
    """Which of the two queues an owed order waits in. Live goes first."""

    LIVE = 0
    BACKFILL = 1


@dataclass(frozen=True, slots=True)
class DebouncePolicy:
    """Due `quiet` after the last change, but no later than `max_wait` after the first unsent one.

    In the backfill the quiet period ends with the next whole multiple of `quiet` since 1970: many changes of an order
    have one due time then, which costs the state less than moving it each time.
    """

    quiet: timedelta
    max_wait: timedelta

    def due_at(self, first_change: datetime, last_change: datetime, lane: Lane = Lane.LIVE) -> datetime:
        """The moment the order may go out. A hot order cannot be starved: `max_wait` counts from the first change."""
        calm = last_change + self.quiet
        if lane is Lane.BACKFILL and self.quiet:
            calm += (EPOCH - calm) % self.quiet
        return min(calm, first_change + self.max_wait)


def next_lane(*, owed: bool, current: Lane, touch: Lane) -> Lane:
    """The lane after a touch: live wins while something is owed; with nothing owed the touch alone decides."""
    return min(current, touch) if owed else touch
