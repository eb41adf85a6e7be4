"""Customers to be erased: messages folded as they come from Kafka, and all that rests in the state."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import psycopg
from fixtures.postgres import Database

from daemon.ingest.change import Change, Message, Reject
from daemon.ingest.debezium import Decoder
from daemon.ingest.fold import Stager
from daemon.mapping.loader import load_mapping
from daemon.mapping.model import Mapping
from daemon.settings import Destination, Ingest, Postgres, Settings
from daemon.state.ingest_store import Batch, Move, PostgresIngestStore, TopicPartition

KEY_VARIABLE = "ORDER_SYNC_TEST_ERASE_KEY"
SHOPS = Path(__file__).parents[1] / "config" / "oms"
BATCH = 200


def settings_for(postgres: Postgres, mapping: Mapping, url: str = "http://127.0.0.1:1", **ingest: Any) -> Settings:
    """Settings with the key by which customers are erased."""
    return Settings(
        mapping=Path(mapping.path),
        postgres=postgres,
        ingest=Ingest(**{"erase_key_env": KEY_VARIABLE, **ingest}),
        destinations={"d": Destination(base_url=url, client_id="sandbox-client", live_since="1970-01-01")},
    )


class Kafka:
    """Topics of one partition each, and a process that folds them."""

    def __init__(self, settings: Settings, mapping: Mapping) -> None:
        self.settings, self.mapping = settings, mapping
        self.messages: list[Message] = []
        self._ends: dict[str, int] = {}
        self._position = 1000

    def send(self, topic: str, row: dict[str, Any], *, op: str = "u", raw: bytes | None = None) -> Message:
        """A row as Debezium tells it; or bytes that are none of Debezium's."""
        self._position += 10
        at = 1_772_000_000_000 + self._position
        table = topic.split(".")[-1]
        source = {
            "connector": "postgresql",
            "name": "oms",
            "db": "oms",
            "schema": "public",
            "table": table,
            "ts_ms": at,
            "lsn": self._position,
            "snapshot": "false",
        }
        event = {"op": op, "after": row, "before": None, "source": source, "ts_ms": at}
        key = next(iter(row.items())) if row else ("id", None)
        offset = self._ends.get(topic, 0)
        self._ends[topic] = offset + 1
        message = Message(
            topic, 0, offset, at, json.dumps({key[0]: key[1]}).encode(), raw or json.dumps(event).encode(), None
        )
        self.messages.append(message)
        return message

    def fold(self, messages: Iterable[Message]) -> None:
        """Fold these, each once more than their topics were read."""
        decoder, stager = Decoder(self.mapping.structure), Stager(self.mapping.structure)
        store = PostgresIngestStore.under(self.settings, self.mapping)
        try:
            store.open(self.mapping.structure, ["d"])
            given = list(messages)
            for start in range(0, len(given), BATCH):
                self._fold(store, decoder, stager, given[start : start + BATCH])
        finally:
            store.close()

    def _fold(self, store: PostgresIngestStore, decoder: Decoder, stager: Stager, messages: Sequence[Message]) -> None:
        names = {(one.topic, one.partition): TopicPartition(one.topic, "one", one.partition) for one in messages}
        at = store.positions(names.values())
        changes: list[tuple[int, Change]] = []
        rejects: list[tuple[str, Reject]] = []
        moves: dict[int, Move] = {}
        for message in messages:
            position = at[names[message.topic, message.partition]]
            move = moves.setdefault(position.origin, Move(position.origin, position.next_offset, message.offset + 1))
            move.next = max(move.next, message.offset + 1)
            decoded = decoder.decode(message)
            if isinstance(decoded, Change):
                changes += [(position.origin, one) for one in (decoded, decoded.then) if one is not None]
            elif isinstance(decoded, Reject):
                rejects.append(("one", decoded))
        ordered = [moves[origin] for origin in sorted(moves)]
        store.fold(Batch(stager.stage(changes, 0), rejects, ordered))


def mapping_of(name: str) -> Mapping:
    """A mapping that is shipped."""
    return load_mapping(SHOPS / f"{name}.yaml")


def rebuild(look: psycopg.Connection) -> None:
    """As `order-sync rebuild` of all sources: what is read again replaces what is there."""
    look.execute("update source set generation = generation + 1")
    look.execute("update kafka_position set next_offset = 0")


def at_rest(database: Database) -> str:
    """Every text, JSON and byte of the whole state, compressed ones opened."""
    with database.connect() as connection:
        connection.execute("set search_path to order_sync")
        columns = connection.execute(
            "select table_name, string_agg(quote_ident(column_name), ', ') from information_schema.columns"
            " where table_schema = 'order_sync' and (data_type in ('text', 'json', 'jsonb', 'bytea', 'ARRAY')"
            " or data_type like 'character%') group by table_name"
        ).fetchall()
        parts = [
            _text(value)
            for table, names in columns
            for row in connection.execute(f"select {names} from {table}").fetchall()
            for value in row
        ]
        return "\n".join(parts)


def _text(value: Any) -> str:
    if isinstance(value, bytes):
        with suppress(zlib.error):
            value = zlib.decompress(value)
        return value.decode("utf-8", "replace")
    if isinstance(value, dict | list):
        return json.dumps(value, ensure_ascii=False, default=str)
    return str(value)
