"""What a trap is: something in the newest messages or settings of a topic that hurts sooner or later."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class TrapKind(StrEnum):
    """Every trap that is known; a closed set."""

    UNREADABLE = "unreadable"
    FLATTENED = "flattened"
    BESIDE_ROWS = "beside_rows"
    TRUNCATED = "truncated"
    NO_KEY = "no_key"
    KEY_OUTSIDE_IDENTITY = "key_outside_identity"
    ZERO_KEYS = "zero_keys"
    PLACEHOLDERS_COMPACTED = "placeholders_compacted"
    COMPACTED_BY_OTHER_KEY = "compacted_by_other_key"
    PRECISE_WITHOUT_TYPE = "precise_without_type"
    DECIMALS_AS_DOUBLE = "decimals_as_double"
    TIMES_IN_MILLISECONDS = "times_in_milliseconds"
    TIME_UNIT = "time_unit"
    NO_TOMBSTONES = "no_tombstones"
    SNAPSHOT_RUNNING = "snapshot_running"
    TWO_WRITERS = "two_writers"
    OTHER_WRITER = "other_writer"
    SHORT_RETENTION = "short_retention"
    SHORT_DELETE_RETENTION = "short_delete_retention"
    BEYOND_FETCH = "beyond_fetch"
    NEAR_LARGEST = "near_largest"
    NO_HEARTBEAT = "no_heartbeat"
    LATE_HEARTBEAT = "late_heartbeat"


@dataclass(frozen=True, slots=True)
class Trap:
    """What was seen, without row values, and the cure. `fatal`: what is read so is wrong or lost already."""

    kind: TrapKind
    what: str
    cure: str
    fatal: bool = False
