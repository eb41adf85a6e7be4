"""The catch-up gate: delivery waits while partitions are far behind, so that no half-read order goes out."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta

import structlog

from daemon.operate.metrics import Metrics
from daemon.settings import Ingest
from daemon.state.ingest_store import IngestStore, TopicPartition

log = structlog.get_logger()

LOOK_SECS = 2.0


class Gate:
    """Closes the gate at the start and whenever a partition has been behind for long. Times are monotonic seconds."""

    def __init__(self, settings: Ingest, metrics: Metrics) -> None:
        self._settings = settings
        self._metrics = metrics
        self._close_at = 0.0  # not again before
        self._look_at = 0.0
        self._targets = 0
        self.begun = False
        """Whether it was closed at the start: nothing is folded before."""

    def due(self, longest_lag_secs: float, now: float) -> bool:
        """Whether it is time to close it again, for which the ends in Kafka must be known."""
        return not self.begun or (longest_lag_secs > self._settings.gate_lag_secs and now >= self._close_at)

    def close(self, store: IngestStore, ends: Mapping[TopicPartition, int], now: float) -> None:
        """Hold delivery until all partitions have reached these ends. Raises StateUnavailable."""
        targets = store.close_gate(ends, timedelta(seconds=self._settings.gate_max_secs))
        self.begun, self._close_at, self._look_at = True, now + self._settings.gate_lag_secs, 0.0
        self._targets = max(self._targets, targets)
        if targets:
            log.warning("delivery is held until ingest has caught up", partitions=targets)

    def look(self, store: IngestStore, now: float) -> None:
        """Now and then: tell how many partitions hold delivery. Raises StateUnavailable."""
        if now < self._look_at:
            return
        targets = store.gate()
        self._look_at = now + LOOK_SECS
        self._metrics.gate_targets.set(targets)
        if self._targets and not targets:
            log.info("ingest has caught up, delivery goes on")
        self._targets = targets
