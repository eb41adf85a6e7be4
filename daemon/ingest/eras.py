"""Whether the state went back: seen before anything of Kafka is read on, and what follows from it for ingest."""

from __future__ import annotations

from collections.abc import Container, Mapping

import structlog

from daemon.ingest.batch import PartitionState
from daemon.ingest.kafka import KafkaSource, Partition
from daemon.ingest.standing import Known
from daemon.operate.metrics import Metrics
from daemon.state.era import FIRST, Era, signature
from daemon.state.ingest_store import IngestStore

log = structlog.get_logger()

LOOK_SECS = 5.0


class Eras:
    """The present era as this process knows it. Times are monotonic seconds."""

    def __init__(self, store: IngestStore, kafka: KafkaSource, metrics: Metrics) -> None:
        self._store = store
        self._kafka = kafka
        self._metrics = metrics
        self._era = FIRST
        self._look_at = 0.0

    @property
    def replaying(self) -> bool:
        """Whether what is read may have been read before, in a future that was lost."""
        return self._era.replaying

    def settle(self, now: Known, without: Container[str]) -> bool:
        """See whether the state went back; whether partitions may be started. `without`: topics that we may not read.

        To be called before they are. Raises StateUnavailable.
        """
        if now.picture.mirrored is None:
            return False
        self._note(self._store.era())
        mirrored = {now.named[name]: at for name, at in now.picture.mirrored.items() if name in now.stored}
        if mirrored:
            self._note(self._store.follow_mirror(mirrored))
        if not self._era.targeted:
            ends = now.ends(without)
            self._note(self._store.replay(ends))
            log.warning("delivery is held until Kafka is read again", era=self._era.number, partitions=len(ends))
        return True

    def mirror(self, offsets: Mapping[Partition, int], partitions: Mapping[Partition, PartitionState]) -> None:
        """Leave in Kafka where we stand."""
        self._kafka.mirror(offsets, {name: signature(self._era, partitions[name].id.topic_id) for name in offsets})

    def look(self, now: float) -> None:
        """Now and then: tell which era it is. Raises StateUnavailable."""
        if now < self._look_at:
            return
        self._look_at = now + LOOK_SECS
        before = self._era
        self._note(self._store.era())
        if before.number == self._era.number and before.replaying and not self._era.replaying:
            log.info("Kafka is read again, delivery goes on", era=self._era.number)

    def _note(self, era: Era) -> None:
        self._era = era
        self._metrics.era.set(era.number)
        self._metrics.era_age_seconds.set(era.secs)
        self._metrics.era_replaying.set(int(era.replaying))
