"""Whether a partition can be read on from where the state stands, judged from what Kafka and the state say of it.

A gap is what reading on would skip in silence: changes that Kafka does not have any more, or that stand in another
topic of the same name. It halts the source until a person says where to go on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class HaltReason(StrEnum):
    """Why ingest of a source stands still. The metric's closed label set."""

    RETENTION = "retention"  # Kafka deleted messages before they were read
    TRUNCATED = "truncated"  # the log ends before the position: it lost its end, or is another one
    RECREATED = "recreated"  # the topic was deleted and made anew
    COMPACTION = "compaction"  # unread for so long that compaction may have removed deletes
    REJECTS = "rejects"  # too many messages that cannot be decoded


@dataclass(frozen=True, slots=True)
class Halt:
    """A reason and its text, which says place, cause and cure."""

    reason: HaltReason
    why: str


@dataclass(frozen=True, slots=True)
class Log:
    """What Kafka says of a partition: first offset, end, and how long it keeps deletes (None: it does not compact)."""

    start: int
    end: int
    keeps_deletes_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Stand:
    """What the state says of a partition: next offset (-1: its beginning) and when it was last read to its end.

    `refused`: Kafka said of this very offset that it is not there.
    """

    next_offset: int
    read_ms: int
    refused: bool = False


def gap(log: Log, stand: Stand, now_ms: int) -> HaltReason | None:
    """The reason why this partition must not be read on, None where it can. Times are epoch milliseconds.

    A partition at its beginning has no gap: of what was never read, nothing is missing. That the log ends before the
    position counts only once Kafka has refused the position: the end it tells may be too low for a moment.
    """
    if stand.next_offset < 0:
        return None
    if stand.next_offset < log.start:
        return HaltReason.RETENTION
    if stand.refused:
        return HaltReason.TRUNCATED
    if log.keeps_deletes_ms is not None and stand.next_offset < log.end:
        return HaltReason.COMPACTION if now_ms - stand.read_ms > log.keeps_deletes_ms else None
    return None


def recreated(topic: str, source: str) -> Halt:
    """The halt of a topic that the state knows by another topic id."""
    return Halt(
        HaltReason.RECREATED,
        f"topic {topic} was deleted and made anew: the state stands in the one before it; `order-sync position reset "
        f"{topic} --to earliest` reads the new one from its beginning, and `order-sync rebuild --source {source}` "
        f"also finds the rows that are gone since",
    )


def halt_of(topic: str, source: str, gaps: Mapping[int, tuple[HaltReason, Log, Stand]]) -> Halt:
    """The halt of a topic with at least one gap; `gaps` by partition. The text tells the first, counts the others."""
    number, (reason, log, stand) = min(gaps.items())
    others = f" (and {len(gaps) - 1} more partitions)" if len(gaps) > 1 else ""
    return Halt(reason, f"topic {topic} partition {number}{others}: {_TEXTS[reason](topic, source, log, stand)}")


def _retention(topic: str, source: str, log: Log, stand: Stand) -> str:
    return (
        f"Kafka deleted offsets {stand.next_offset} to {log.start - 1} before they were read; `order-sync position "
        f"reset {topic} --to earliest` goes on with what is left, and a new snapshot of {source} brings back the "
        f"changes that are lost"
    )


def _truncated(topic: str, source: str, log: Log, stand: Stand) -> str:
    return (
        f"Kafka has no offset {stand.next_offset}, where the state stands: its log ends at {log.end} (an unclean "
        f"leader election, or another topic of that name); `order-sync position reset {topic} --to here` goes on at "
        f"the log's end, `--to earliest` reads all of it anew; a new snapshot of {source} brings back what is lost"
    )


def _compaction(topic: str, source: str, log: Log, stand: Stand) -> str:
    hours = (log.keeps_deletes_ms or 0) / 3_600_000
    return (
        f"offsets {stand.next_offset} to {log.end - 1} of a compacted topic were left unread for longer than "
        f"delete.retention.ms ({hours:g} h): deletes among them may be gone; `order-sync rebuild --source {source}` "
        f"reads it anew and finds rows that are gone, `order-sync position reset {topic} --to here` goes on without"
    )


_TEXTS = {
    HaltReason.RETENTION: _retention,
    HaltReason.TRUNCATED: _truncated,
    HaltReason.COMPACTION: _compaction,
}
