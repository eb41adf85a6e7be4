"""Sources that stand still until a person says where to go on: in the log, as metrics, and in the state."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import structlog

from daemon.ingest.gaps import Halt, HaltReason
from daemon.ingest.kafka import Partition
from daemon.mapping.structure import Source
from daemon.operate.metrics import Metrics
from daemon.state.ingest_store import IngestStore, Position

log = structlog.get_logger()

Stored = Mapping[Partition, Position]


@dataclass(frozen=True, slots=True)
class _Halted:
    halt: Halt
    seen: dict[Partition, Position | None]  # where the partitions to blame stood; None: nowhere in this incarnation
    origins: frozenset[int]  # of all partitions that stand still


class Halts:
    """The halted topics of this process. A halt ends when the positions to blame are not as they were any more."""

    def __init__(self, sources: Mapping[str, Source], metrics: Metrics) -> None:
        """`sources` by topic."""
        self._sources = sources
        self._metrics = metrics
        self._halted: dict[str, _Halted] = {}
        self._unwritten: dict[int, str] = {}
        for source in sources.values():
            for reason in HaltReason:
                metrics.source_halted.labels(source=source.name, reason=reason)

    def __contains__(self, topic: object) -> bool:
        return topic in self._halted

    def __bool__(self) -> bool:
        return bool(self._halted)

    @property
    def why(self) -> dict[str, str]:
        """The halted topics, and the reason, place and cure of each."""
        return {topic: halted.halt.why for topic, halted in self._halted.items()}

    def begin(
        self,
        topic: str,
        halt: Halt,
        seen: Mapping[Partition, Position | None],
        partitions: Mapping[Partition, Position],
    ) -> None:
        """Halt a topic because of the partitions in `seen`; `partitions` are all those that stand still with them."""
        self._end(topic)
        origins = frozenset(position.origin for position in partitions.values())
        self._halted[topic] = _Halted(halt, dict(seen), origins)
        self._unwritten |= dict.fromkeys(origins, halt.why)
        source = self._sources[topic].name
        self._metrics.source_halted.labels(source=source, reason=halt.reason).set(1)
        log.error("source halted", source=source, topic=topic, reason=str(halt.reason), why=halt.why)

    def lasts(self, topic: str, stored: Stored) -> bool:
        """Whether none of the positions to blame has been changed by a person since."""
        halted = self._halted[topic]
        return any(stored.get(partition) == position for partition, position in halted.seen.items())

    def end(self, topic: str) -> HaltReason:
        """Its positions were reset: it goes on. The reason why it stood still."""
        reason = self._end(topic)
        assert reason is not None  # noqa: S101 - the caller asks for halted topics alone
        log.info("source goes on", source=self._sources[topic].name, topic=topic, halted_for=str(reason))
        return reason

    def keep(self, topics: set[str]) -> None:
        """Forget topics of which this member has no partition any more: another one judges them."""
        for topic in self._halted.keys() - topics:
            self._end(topic)

    def write(self, store: IngestStore) -> None:
        """Write new halts down. What cannot be written now is left for the next time. Raises StateUnavailable."""
        texts: dict[str, list[int]] = {}
        for origin, why in self._unwritten.items():
            texts.setdefault(why, []).append(origin)
        for why, origins in texts.items():
            store.halt(origins, why)
            self._unwritten = {origin: text for origin, text in self._unwritten.items() if text != why}

    def _end(self, topic: str) -> HaltReason | None:
        halted = self._halted.pop(topic, None)
        if halted is None:
            return None
        self._unwritten = {origin: why for origin, why in self._unwritten.items() if origin not in halted.origins}
        self._metrics.source_halted.labels(source=self._sources[topic].name, reason=halted.halt.reason).set(0)
        return halted.halt.reason
