"""The recordings through decoder, stager and the real store: the mirror ends with what the database held."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from typing import Any

import corpora_loader
import psycopg
import pytest
from deliveries import Again, interleaved, twice
from fixtures.postgres import Database
from fold_rig import recording
from postgres_line import PostgresLine

from daemon.ingest.change import Message
from daemon.ingest.debezium import Decoder

pytestmark = pytest.mark.postgres

INTERLEAVINGS = 3
CRASHES = 50

every_recording = pytest.mark.parametrize("name", corpora_loader.NAMES)


@pytest.fixture(scope="module")
def state(module_database: Database) -> Database:
    """One migrated database for all recordings; each line empties it."""
    return module_database


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
