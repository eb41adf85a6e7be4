"""The ingest store in memory keeps the contract."""

from __future__ import annotations

import pytest
from ingest_state_suite import IngestStateSuite
from ingest_store_suite import STRUCTURE, IngestStoreSuite, Rig, Seen

from daemon.state.ingest_store import TopicPartition
from daemon.state.memory_ingest import MemoryIngestStore
from daemon.state.schedule import Lane


class MemoryRig(Rig):
    def __init__(self) -> None:
        self.marks: dict[str, list[Lane]] = {}
        super().__init__(MemoryIngestStore(lambda order, lane, _: self.marks.setdefault(order, []).append(lane)))
        self.store.open(STRUCTURE, ["a"])

    def row(self, source: str, key: str) -> Seen | None:
        row = self.store.rows.get((source, key))
        return row and Seen(row.columns, frozenset(row.unknown), row.deleted, row.root, row.first_seen_ms)

    def revisions(self) -> dict[str, int]:
        return {order: len(lanes) for order, lanes in self.marks.items()}

    def settle(self) -> None:
        self.marks.clear()

    def lanes(self) -> dict[str, Lane]:
        return {order: min(lanes) for order, lanes in self.marks.items()}

    def reset(self, partition: TopicPartition, next_offset: int) -> None:
        self.store.reset(partition, next_offset)

    def raise_generation(self, source: str) -> None:
        self.store.generations[source] = self.store.generations.get(source, 0) + 1


class TestMemoryIngestStore(IngestStateSuite, IngestStoreSuite):
    @pytest.fixture
    def rig(self) -> Rig:
        return MemoryRig()
