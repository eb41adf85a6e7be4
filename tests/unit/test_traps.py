"""Traps are named where recordings show them, and only there."""

from __future__ import annotations

import dataclasses
import json
from collections import defaultdict
from collections.abc import Iterable
from types import MappingProxyType
from typing import Any

import corpora_loader
import pytest

from daemon.ingest.change import Message
from daemon.ingest.debezium import Decoder
from daemon.ingest.traps.messages import message_traps
from daemon.ingest.traps.sample import Sample, take
from daemon.ingest.traps.topics import LATE_MS, OUTAGE_MS, heartbeat_traps, prefixes, setting_traps, sister_traps
from daemon.ingest.traps.trap import Trap, TrapKind
from daemon.mapping.structure import ConnectorModes, Role, Source, Structure

NEWEST = 20
STRING = ConnectorModes(decimal_handling_mode="string")
ORDERS = Source("orders", "oms.public.orders", Role.ROOT, key=("id",), modes=STRING)
NOW = 1_800_000_000_000
DAY = 86_400_000


def recorded(
    letter: str,
    table: str,
    *,
    compacted: bool = False,
    typed: bool | None = None,
    ops: str = "crudt",
    exact: bool = False,
) -> list[Trap]:
    """The traps in the newest messages that a recording has of a table, read as its connector wrote them."""
    corpus = corpora_loader.load(letter)
    structure = corpora_loader.structure_for(corpus, typed=typed)
    source = structure.sources[table]
    partitions: dict[int, list[Message]] = defaultdict(list)
    for message in corpus.of_tables():
        if message.topic == source.topic and _op(message) in ops:
            partitions[message.partition].append(message)
    newest = [message for messages in partitions.values() for message in messages[-NEWEST:]]
    sample = take(source, newest, Decoder(structure), compacted=compacted)
    now_ms = max(message.timestamp_ms or 0 for message in newest)
    return message_traps(sample, corpus.tables[table].types, now_ms, exact_decimals=exact)


def _op(message: Message) -> str:
    document = json.loads(message.value or b'{"op": "d"}')
    return str(document.get("payload", document).get("op", "u"))


def kinds(traps: Iterable[Trap]) -> dict[TrapKind, bool]:
    """Which traps, and whether they are fatal."""
    return {trap.kind: trap.fatal for trap in traps}


def tables(letter: str) -> list[str]:
    """The tables of a recording."""
    return list(corpora_loader.load(letter).tables)


@pytest.mark.parametrize("letter", ["a", "b", "c", "f", "g", "i", "j", "k", "m", "n"])
def test_a_sound_connector_is_no_trap(letter: str) -> None:
    """Recordings whose every value can be read: nothing is named, floating-point columns of the OMS neither."""
    for table in tables(letter):
        assert recorded(letter, table, exact=True) == [], table


def test_a_table_alone_cannot_tell_doubles_from_decimals() -> None:
    """Floating-point columns are suspected where no decimal shows how the connector writes those."""
    assert kinds(recorded("b", "addresses")) == {TrapKind.DECIMALS_AS_DOUBLE: False}
    assert kinds(recorded("b", "orders")) == {}, "its decimals show it"


def test_placeholders_on_a_compacted_topic() -> None:
    """Only together: the column is named, and the identity that sends whole rows; with that identity it is none."""
    [trap] = recorded("a", "orders", compacted=True)
    assert trap.kind is TrapKind.PLACEHOLDERS_COMPACTED
    assert "metadata" in trap.what
    assert "`alter table public.orders replica identity full`" in trap.cure
    assert recorded("f", "orders", compacted=True) == []


def test_precise_decimals_without_scale_and_type() -> None:
    """Amounts in base64 are named by column; words that are base64 too (paid) are not, nor what has a type."""
    [trap] = recorded("c", "orders", typed=False)
    assert trap.kind is TrapKind.PRECISE_WITHOUT_TYPE
    assert trap.what.startswith("discount, shipping, subtotal, tax, total look like")


def test_doubles_and_milliseconds() -> None:
    """Decimals as doubles and times cut to milliseconds, each by its columns."""
    found = {trap.kind: trap for trap in recorded("e", "orders")}
    assert found.keys() == {TrapKind.DECIMALS_AS_DOUBLE, TrapKind.TIMES_IN_MILLISECONDS}
    assert "total" in found[TrapKind.DECIMALS_AS_DOUBLE].what
    assert "fx_rate" not in found[TrapKind.DECIMALS_AS_DOUBLE].what, "a double precision column of the OMS"
    assert "local_placed" in found[TrapKind.TIMES_IN_MILLISECONDS].what


def test_message_keys_beside_the_primary_key() -> None:
    """Zeros in the keys of deletes are fatal; without a delete yet, updates without the old row warn of it."""
    assert kinds(recorded("x", "order_lines")) == {TrapKind.ZERO_KEYS: True}
    assert kinds(recorded("x", "order_lines", ops="cru")) == {TrapKind.KEY_OUTSIDE_IDENTITY: False}
    assert kinds(recorded("x", "order_lines", ops="cr")) == {}
    assert kinds(recorded("g", "order_lines", ops="cru")) == {}, "its identity is full"
    assert kinds(recorded("g", "order_lines", compacted=True)) == {TrapKind.COMPACTED_BY_OTHER_KEY: True}


def test_truncates_and_snapshots() -> None:
    """A truncate deletes nothing here; rows of an incremental snapshot say that one may run."""
    [truncated] = recorded("h", "carts")
    assert truncated.kind is TrapKind.TRUNCATED
    assert "order-sync rebuild --source carts" in truncated.cure
    assert kinds(recorded("h", "products")) == {TrapKind.SNAPSHOT_RUNNING: False}


def test_deletes_without_tombstones() -> None:
    """The recording of a transform that drops tombstones."""
    assert TrapKind.NO_TOMBSTONES in kinds(recorded("d", "orders"))


def test_topics_that_are_no_tables() -> None:
    """Transaction records on a mapped topic are named, with the setting to mend."""
    corpus = corpora_loader.load("h")
    source = dataclasses.replace(ORDERS, topic="oms.transaction")
    messages = [message for message in corpus.messages if message.topic == source.topic][:9]
    [trap] = message_traps(taken(source, messages), (), NOW)
    assert trap.kind is TrapKind.BESIDE_ROWS
    assert trap.what.startswith("9 of the newest 9 messages are transaction records")
    assert trap.cure.startswith("mend sources.orders.topic")


def taken(source: Source, messages: Iterable[Message], *, compacted: bool = False) -> Sample:
    """Messages as a decoder over this one source understands them."""
    return take(source, messages, Decoder(Structure("orders", {"orders": source}, "v")), compacted=compacted)


def event(offset: int, after: dict[str, Any] | None, **changes: Any) -> Message:
    """One envelope of the orders topic, partition 0, written at NOW; `source` is merged, `key` may be replaced."""
    block = {"connector": "postgresql", "name": "oms", "db": "oms", "schema": "public", "table": "orders"}
    block |= {"lsn": offset, "ts_ms": NOW, "snapshot": "false"} | changes.pop("source", {})
    key = changes.pop("key", b'{"id": 1}')
    value = {"before": None, "after": after, "source": block, "op": "c"} | changes
    return Message(ORDERS.topic, 0, offset, NOW, key, json.dumps(value).encode(), None)


def seen(*messages: Message, source: Source = ORDERS, used: Iterable[str] = ("id", "total")) -> dict[TrapKind, bool]:
    """The traps in these messages."""
    return kinds(message_traps(taken(source, messages), used, NOW))


def test_what_cannot_be_read_is_fatal_and_told_in_the_decoders_words() -> None:
    """Bytes that are no JSON: how many of how many, and why; the bytes are not shown."""
    avro = Message(ORDERS.topic, 0, 1, NOW, b'{"id": 1}', b"\x00\x00\x00\x00\x01secret", None)
    [trap] = message_traps(taken(ORDERS, [event(0, {"id": 1}), avro]), ("id",), NOW)
    assert (trap.kind, trap.fatal) == (TrapKind.UNREADABLE, True)
    assert trap.what.startswith("1 of the newest 2 messages cannot be read: ")
    assert "secret" not in trap.what


def test_rows_without_a_message_key() -> None:
    """A table without primary key: its rows lie anywhere."""
    assert seen(event(1, {"id": 1}, key=None)) == {TrapKind.NO_KEY: False}


def test_flattened_rows_without_position() -> None:
    """Rows alone are a trap, those that carry log position and time are not."""
    flat = dataclasses.replace(ORDERS, modes=dataclasses.replace(STRING, unwrapped=True))
    bare = Message(ORDERS.topic, 0, 1, NOW, b'{"id": 1}', b'{"id": 1, "total": "1.50"}', None)
    assert seen(bare, source=flat) == {TrapKind.FLATTENED: False}
    told = {"id": 1, "total": "1.50", "__op": "c", "__lsn": 5, "__source_ts_ms": NOW, "__deleted": "false"}
    assert seen(dataclasses.replace(bare, value=json.dumps(told).encode()), source=flat) == {}


def test_a_count_in_another_unit_is_fatal() -> None:
    """Milliseconds read as microseconds are times in 1970: the order's time would be wrong, not missing."""
    typed = dataclasses.replace(ORDERS, types=MappingProxyType({"placed": "timestamp"}))
    assert seen(event(1, {"id": 1, "placed": NOW}), source=typed, used=("placed",)) == {TrapKind.TIME_UNIT: True}
    assert seen(event(1, {"id": 1, "placed": NOW * 1000}), source=typed, used=("placed",)) == {}
    assert seen(event(1, {"id": 1, "placed": NOW}), source=typed, used=("id",)) == {}, "nobody reads it"


def test_a_running_snapshot_has_no_last_row_yet() -> None:
    """Snapshot reads without the last one; the last one, or any later change, says that it is over."""
    reads = [event(n, {"id": n}, op="r", source={"snapshot": mark}) for n, mark in enumerate(["first", "true"])]
    assert seen(*reads) == {TrapKind.SNAPSHOT_RUNNING: False}
    assert seen(*reads, event(9, {"id": 9}, op="r", source={"snapshot": "last_in_data_collection"})) == {}
    assert seen(*reads, event(9, {"id": 9})) == {}


def test_an_incremental_snapshot_of_long_ago_is_over() -> None:
    """Its rows may be a quiet table's newest messages for years."""
    old = event(1, {"id": 1}, op="r", source={"snapshot": "incremental", "lsn": None})
    assert seen(old) == {TrapKind.SNAPSHOT_RUNNING: False}
    assert seen(dataclasses.replace(old, timestamp_ms=NOW - DAY)) == {}


def test_two_writers_of_one_topic() -> None:
    """Positions of two databases do not compare, whatever the topic is called."""
    assert seen(event(1, {"id": 1}), event(2, {"id": 2}, source={"db": "restored"})) == {TrapKind.TWO_WRITERS: False}


def test_a_topic_of_another_connector_than_its_sisters() -> None:
    """The root's writer counts as the usual one; the odd topic is named."""
    lines = dataclasses.replace(ORDERS, name="lines", role=Role.OWNED)
    usual = taken(ORDERS, [event(1, {"id": 1})])
    odd = take(lines, [event(1, {"id": 1}, source={"name": "old"})], Decoder(Structure("orders", {"x": lines}, "v")))
    empty = take(dataclasses.replace(lines, name="none"), [], Decoder(Structure("orders", {"x": lines}, "v")))
    [(sample, trap)] = sister_traps([odd, usual, empty])
    assert sample is odd
    assert trap.kind is TrapKind.OTHER_WRITER
    assert "connector old of database oms, its sisters by the postgresql connector oms" in trap.what
    assert list(sister_traps([usual, empty])) == []
    assert prefixes([odd, usual, empty]) == ["old", "oms"]


SOUND = {
    "cleanup.policy": "delete",
    "retention.ms": str(14 * DAY),
    "delete.retention.ms": str(DAY),
    "max.message.bytes": "1048588",
}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, []),
        ({"retention.ms": "-1"}, []),
        ({"retention.ms": str(OUTAGE_MS - 1)}, [TrapKind.SHORT_RETENTION]),
        ({"cleanup.policy": "compact", "retention.ms": "1"}, [TrapKind.SHORT_DELETE_RETENTION]),
        ({"cleanup.policy": "compact", "delete.retention.ms": str(OUTAGE_MS)}, []),
        (
            {"cleanup.policy": "compact,delete", "retention.ms": "1"},
            [TrapKind.SHORT_RETENTION, TrapKind.SHORT_DELETE_RETENTION],
        ),
        ({"max.message.bytes": "100000001"}, [TrapKind.BEYOND_FETCH]),
        ({"max.message.bytes": "1999"}, [TrapKind.NEAR_LARGEST]),
    ],
)
def test_settings_of_a_topic(changes: dict[str, str], expected: list[TrapKind]) -> None:
    """Retention of changes and deletes against a week's stand-still, sizes against what is let in and fetched."""
    assert [trap.kind for trap in setting_traps(SOUND | changes, [10, 1000], 100_000_000)] == expected


def test_settings_that_nobody_told() -> None:
    """A broker that tells no settings gives no ground for a warning."""
    assert list(setting_traps({}, [10], 100)) == []


def test_heartbeats() -> None:
    """None at all, and none for ten minutes, are two things; a fresh one is fine."""
    [none] = heartbeat_traps("oms", None, NOW)
    assert none.kind is TrapKind.NO_HEARTBEAT
    [late] = heartbeat_traps("oms", NOW - LATE_MS - 1, NOW)
    assert (late.kind, late.what) == (
        TrapKind.LATE_HEARTBEAT,
        "the last heartbeat of connector oms is 10 min old: it stands still",
    )
    assert list(heartbeat_traps("oms", NOW - 1000, NOW)) == []
