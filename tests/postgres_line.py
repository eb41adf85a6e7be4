"""A line into the real store on Postgres, whose process can die in the middle of a batch."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from decimal import Decimal
from typing import Any

import psycopg
import pytest
from corpora_truth import Held, Name
from fixtures.postgres import Database
from fold_rig import Flow, Line

from daemon.ingest.change import Message
from daemon.state.ingest_store import PostgresIngestStore, TopicPartition
from daemon.state.schedule import DebouncePolicy

POLICY = DebouncePolicy(timedelta(0), timedelta(0))


class Died(BaseException):
    """The process is gone."""


class MortalStore(PostgresIngestStore):
    """Dies in the transaction of a fold when it is `doomed`, after its last statement."""

    doomed = False

    def _move(self, *arguments: Any) -> None:
        super()._move(*arguments)
        if self.doomed:
            raise Died


class PostgresLine(Line):
    """A line into an emptied state. A crash ends the process in the middle of a batch, and another one goes on."""

    def __init__(self, flow: Flow, database: Database, look: psycopg.Connection) -> None:
        look.execute(
            "truncate source_row, kafka_position, origin, order_sync, rejected_message restart identity cascade"
        )
        look.execute(
            "insert into destination (name, base_url, client_id) values ('a', 'http://x', 'c') on conflict do nothing"
        )
        self._flow, self._database, self._look = flow, database, look
        self.store = self._opened()
        super().__init__(flow, self.store)

    def crash(self, consumed: Sequence[Message] = ()) -> None:
        self.store.doomed = True
        with pytest.raises(Died):
            self.fold(consumed)
        self.store.close()
        self._store = self.store = self._opened()
        super().crash()

    def set_position(self, partition: TopicPartition, offset: int) -> None:
        self._look.execute(
            "update kafka_position set next_offset = %s"
            " where origin = (select id from origin where (topic, topic_id, partition) = (%s, %s, %s))",
            [offset, partition.topic, partition.topic_id, partition.partition],
        )

    def held(self) -> dict[Name, Held]:
        found = self._look.execute(
            "select s.name, r.key, r.columns::text, r.unknown, r.root"
            " from source_row r join source s on s.id = r.source where not r.deleted"
        ).fetchall()
        return {
            (source, key): Held(json.loads(text, parse_float=Decimal), frozenset(unknown or ()), root)
            for source, key, text, unknown, root in found
        }

    def counts(self) -> Counter[str]:
        """The durable counts of all partitions."""
        row = self._look.execute(
            "select sum(folded)::int, sum(stale)::int, sum(skipped)::int, sum(rejected)::int from kafka_position"
        ).fetchone()
        return Counter(dict(zip(("folded", "stale", "skipped", "rejected"), row or (), strict=True)))

    def close(self) -> None:
        self.store.close()

    def _opened(self) -> MortalStore:
        store = MortalStore(self._database.settings, POLICY)
        store.open(self._flow.structure, ["a"])
        return store
