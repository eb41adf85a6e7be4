"""The recordings through decoder, stager and the real store: the mirror ends with what the database held."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import corpora_loader
import psycopg
import pytest
from corpora_truth import Held, Name
from deliveries import Again, interleaved, twice
from fixtures.postgres import Database
from fold_rig import Line, Recording, recording

from daemon.ingest.change import Message
from daemon.ingest.debezium import Decoder
from daemon.state.ingest_store import PostgresIngestStore, TopicPartition
from daemon.state.schedule import DebouncePolicy

pytestmark = pytest.mark.postgres

POLICY = DebouncePolicy(timedelta(0), timedelta(0))
INTERLEAVINGS = 6
CRASHES = 50

every_recording = pytest.mark.parametrize("name", corpora_loader.NAMES)


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

    def __init__(self, recorded: Recording, database: Database, look: psycopg.Connection) -> None:
        look.execute(
            "truncate source_row, kafka_position, origin, order_sync, rejected_message restart identity cascade"
        )
        look.execute(
            "insert into destination (name, base_url, client_id) values ('a', 'http://x', 'c') on conflict do nothing"
        )
        self._recorded, self._database, self._look = recorded, database, look
        self.store = self._opened()
        super().__init__(recorded, self.store)

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
        store.open(self._recorded.structure, ["a"])
        return store


@pytest.fixture(scope="module")
def state(postgres_server: Any, migrated_template: str) -> Iterator[Database]:
    """One migrated database for all recordings; each line empties it."""
    database = Database("corpora_fold", postgres_server)
    postgres_server.create_database(database.name, migrated_template)
    yield database
    postgres_server.drop_database(database.name)


@pytest.fixture
def look(state: Database) -> Iterator[psycopg.Connection]:
    """A connection in our schema."""
    with closing(state.connect()) as connection:
        connection.execute("set search_path to order_sync")
        yield connection


@every_recording
def test_a_recording_folds_to_its_ending_in_every_order_tried(
    state: Database, look: psycopg.Connection, name: str
) -> None:
    """Rows, columns and roots are right, and every message is counted once: in file order, in random ones, and with all
    messages delivered twice in each way that there is."""
    recorded, lots = recording(name), random.Random(name)
    orders: list[tuple[str, Any]] = [("file order", recorded.messages)]
    orders += [(f"interleaving {number}", interleaved(recorded.parts, lots)) for number in range(INTERLEAVINGS)]
    orders += [(how, interleaved([twice(part, how, lots) for part in recorded.parts], lots)) for how in Again]
    for title, steps in orders:
        with closing(PostgresLine(recorded, state, look)) as line:
            line.fold_all(steps, lots, 900)
            assert recorded.judge.wrong(line.held()) == [], title
            counts = line.counts()
            assert counts.total() == sum(isinstance(step, Message) for step in steps), title
            assert counts["rejected"] == 0, title


@every_recording
def test_fifty_crashes_change_nothing(state: Database, look: psycopg.Connection, name: str) -> None:
    """The process dies fifty times, each time just before a batch would be committed, half of the times where a delete
    was the last that it knew of a partition; the next one reads that batch again, among others."""
    recorded, lots = recording(name), random.Random(name)
    messages = recorded.messages
    deletes = [number + 1 for number, message in enumerate(messages[:-1]) if recorded.deletes(message)]
    cuts = set(lots.sample(deletes, min(len(deletes), CRASHES // 2)))
    cuts |= set(lots.sample(sorted(set(range(1, len(messages))) - cuts), CRASHES - len(cuts)))
    done = 0
    with closing(PostgresLine(recorded, state, look)) as line:
        for cut in sorted(cuts):
            line.fold(messages[done:cut])
            line.crash(messages[cut : cut + lots.randint(1, 60)])
            done = cut
        line.fold(messages[done:])
        assert recorded.judge.wrong(line.held()) == []
        assert line.counts().total() == len(messages)


def test_messages_that_cannot_be_decoded_are_all_kept(state: Database, look: psycopg.Connection) -> None:
    """Whatever is no event is a reject with its raw bytes, and the rows they are about are unknown, never null."""
    recorded = recording("a_json_string")
    spoilt = [
        replace(message, value=message.value and message.value.replace(b'"op":', b'"xx":'))
        for message in recorded.messages
    ]
    lost = [message for message in spoilt if message.value is not None]
    with closing(PostgresLine(replace(recorded, decoder=Decoder(recorded.structure)), state, look)) as line:
        line.fold(spoilt)
        assert line.counts()["rejected"] == len(lost)
        assert line.counts().total() == len(spoilt)
    kept = look.execute('select topic, partition, "offset", key, value from rejected_message').fetchall()
    assert sorted(kept) == sorted((m.topic, m.partition, m.offset, m.key, m.value) for m in lost)
    unknown = look.execute("select distinct unknown from source_row where not deleted").fetchall()
    assert unknown == [(["*"],)]
