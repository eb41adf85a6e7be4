"""How far this member's partitions are behind, in messages and in time."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from daemon.ingest.kafka import Partition
from daemon.operate.metrics import Metrics


@dataclass(frozen=True, slots=True)
class _Behind:
    """An end that was not reached when it was seen, and when that was."""

    end: int
    since: float


class Lags:
    """A partition is behind since an end was seen that it has not reached yet: under steady traffic, not for long.

    Times are monotonic seconds.
    """

    def __init__(self, metrics: Metrics, topics: Iterable[str]) -> None:
        self._metrics = metrics
        self._topics = sorted(topics)
        self._behind: dict[Partition, _Behind] = {}
        self._told: set[Partition] = set()

    def note(self, partition: Partition, next_offset: int, end: int, now: float) -> None:
        """The partition stands at `next_offset` (-1: its beginning), and `end` is there to be read."""
        topic, number = partition
        messages = max(0, end - max(0, next_offset))
        self._metrics.consumer_lag_messages.labels(topic=topic, partition=str(number)).set(messages)
        self._told.add(partition)
        known = self._behind.get(partition)
        if not messages:
            self._behind.pop(partition, None)
        elif known is None or next_offset >= known.end:
            self._behind[partition] = _Behind(end, now)

    def keep(self, mine: set[Partition]) -> None:
        """Forget partitions that are not this member's any more: another one tells of them."""
        for topic, number in self._told - mine:
            self._metrics.consumer_lag_messages.remove(topic, str(number))
        self._told &= mine
        self._behind = {partition: behind for partition, behind in self._behind.items() if partition in mine}

    def tell(self, now: float, without: Collection[str] = ()) -> float:
        """Tell each topic's longest lag; the longest of all but these topics', in seconds."""
        longest = dict.fromkeys(self._topics, 0.0)
        for (topic, _), behind in self._behind.items():
            longest[topic] = max(longest.get(topic, 0.0), now - behind.since)
        for topic, seconds in longest.items():
            self._metrics.consumer_lag_seconds.labels(topic=topic).set(seconds)
        return max((seconds for topic, seconds in longest.items() if topic not in without), default=0.0)
