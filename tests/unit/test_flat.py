"""Rows that ExtractNewRecordState flattened: what can be told of them, in which of its modes, and what it takes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.ingest.batch import DecodedBatch, PartitionState
from daemon.ingest.change import Change, Decoded, Kind, Message, Oddity, Reject, RejectReason, Skip, SkipReason
from daemon.ingest.debezium import Decoder
from daemon.mapping.structure import ConnectorModes, Role, Source, Structure
from daemon.state.ingest_store import Position, TopicPartition

TOPIC = "oms.public.orders"
UNWRAPPED = ConnectorModes(unwrapped=True)
PLACEHOLDER = "__debezium_unavailable_value"


def decoder(modes: ConnectorModes | None = None, key: tuple[str, ...] | None = ("id",), **fields: Any) -> Decoder:
    """A decoder of one source."""
    only = Source("orders", TOPIC, Role.ROOT, key=key, modes=modes or ConnectorModes(), **fields)
    return Decoder(Structure("orders", {"orders": only}, "v1"))


def message(value: Any, key: Any = None, headers: Mapping[str, bytes | None] | None = None, offset: int = 7) -> Message:
    """A message of the given JSON; None is null. `__debezium_` in a header's name stands for `__debezium.`."""
    raw = None if value is None else orjson.dumps(value)
    pairs = [(name.replace("__debezium_", "__debezium."), content) for name, content in (headers or {}).items()]
    return Message(TOPIC, 0, offset, 1000, None if key is None else orjson.dumps(key), raw, pairs or None)


def change(decoded: Decoded) -> Change:
    """The outcome, which must be a change."""
    assert isinstance(decoded, Change), decoded
    return decoded


def reject(decoded: Decoded) -> Reject:
    """The outcome, which must be a reject."""
    assert isinstance(decoded, Reject), decoded
    return decoded


FULL = {"__op": "u", "__lsn": 100, "__source_ts_ms": 5000, "__db": "shop", "__schema": "public", "__table": "orders"}
TOLD = FULL | {"__name": "oms", "__connector": "postgresql", "__snapshot": "false"}


@pytest.mark.parametrize("wrap", [False, True])
def test_added_fields_tell_what_the_envelope_told(wrap: bool) -> None:
    """Operation, lineage, position and commit time; none of the added fields becomes a column, with schemas or not."""
    row: dict[str, Any] = {"id": 7, "note": "x"} | TOLD | {"__deleted": "false"}
    fields = [{"type": "string", "field": name} for name in row]
    subject = decoder()
    got = change(
        subject.decode(message({"schema": {"type": "struct", "fields": fields}, "payload": row} if wrap else row))
    )
    assert (got.key, got.kind, got.op, got.columns) == ("7", Kind.UPSERT, "u", {"id": 7, "note": "x"})
    assert (got.lineage, got.position, got.committed_ms) == ("postgresql/oms/shop/public/orders", (100,), 5000)
    assert (got.snapshot, got.oddity) == (False, None)
    assert subject.columns_seen()["orders"].keys() == {"id", "note"}


def test_added_headers_tell_the_same() -> None:
    """As Connect's header converters write them: bare text and numbers, quoted JSON, or JSON behind its schema."""
    bare = {name: str(value).encode() for name, value in TOLD.items()}
    quoted = {name: orjson.dumps(value) for name, value in TOLD.items()}
    wrapped = {name: orjson.dumps({"schema": {"type": "x"}, "payload": value}) for name, value in TOLD.items()}
    for headers in (bare, quoted, wrapped):
        got = change(decoder().decode(message({"id": 7}, None, headers)))
        assert (got.op, got.columns, got.oddity) == ("u", {"id": 7}, None)
        assert (got.lineage, got.position, got.committed_ms) == ("postgresql/oms/shop/public/orders", (100,), 5000)


@pytest.mark.parametrize(
    ("added", "position"),
    [
        ({"__lsn": 100}, (100,)),
        ({"__source_lsn": 100}, (100,)),
        ({"__file": "bin.000003", "__pos": 4}, (3, 4, 0)),
        ({"__file": "bin.000003", "__pos": 4, "__row": 2}, (3, 4, 2)),
        ({"__commit_lsn": "00000027:00000758:0005", "__change_lsn": None}, (39, 1880, 5, 0, 0, 0, 0)),
        ({"__connector": "mariadb", "__file": "bin.000003", "__pos": 4}, (3, 4, 0)),
    ],
)
def test_the_fields_of_a_position_tell_the_kind_of_log(added: dict[str, Any], position: tuple[int, ...]) -> None:
    """The connector's name need not be added."""
    got = change(decoder().decode(message({"id": 7} | added | {"__source_ts_ms": 5000})))
    assert (got.position, got.committed_ms, got.oddity) == (position, 5000, None)


@pytest.mark.parametrize(
    "added",
    [
        {"__deleted": "false"},
        {"__op": "u"},
        {"__op": "u", "__ts_ms": 5000},
        {"__op": "u", "__lsn": 100},
        {"__op": "u", "__source_ts_ms": 5000},
        {"__op": "u", "__source_ts_ms": 5000, "__file": "bin.000003"},
        {"__op": "u", "__source_ts_ms": 5000, "__connector": "oracle", "__scn": "123"},
    ],
)
def test_a_row_that_does_not_tell_its_place_is_folded_and_said_once(added: dict[str, Any]) -> None:
    """Without log position or commit time (that of the connector is none) only Kafka's order is left. The operator is
    told by one message of the source, also when that is decoded again after a fold that failed."""
    subject = decoder()
    told = [change(subject.decode(message({"id": 7} | added, offset=offset))) for offset in (1, 2, 1, 3)]
    assert [each.oddity for each in told] == [Oddity.NO_LOG_POSITION, None, Oddity.NO_LOG_POSITION, None]
    assert all(each.position is None or each.committed_ms is None for each in told)
    assert {each.columns["id"] for each in told} == {7}
    gone = {"id": 7, "__deleted": "true"} | added
    assert change(decoder().decode(message(gone, {"id": 7}))).oddity is Oddity.NO_LOG_POSITION


@pytest.mark.parametrize("headers", [{}, {"__debezium_context.taskId": b"0"}])
def test_a_bare_row_needs_the_mappings_word(headers: dict[str, bytes]) -> None:
    """Any JSON object could be one: undeclared it is a reject that names both cures, declared it is a row."""
    sent = message({"id": 7, "note": "x"}, {"id": 7}, headers)
    refused = reject(decoder().decode(sent))
    assert (refused.reason, refused.key) == (RejectReason.NOT_DEBEZIUM, "7")
    assert "`unwrapped: true`" in refused.detail
    assert "remove" in refused.detail
    got = change(decoder(UNWRAPPED).decode(sent))
    assert (got.key, got.op, got.columns, got.oddity) == ("7", "u", {"id": 7, "note": "x"}, Oddity.NO_LOG_POSITION)


def test_a_prefix_and_new_names_are_told_in_the_mapping() -> None:
    """As the transform's own options say them; whatever else looks like an added field is a column then."""
    modes = ConnectorModes(add_fields=("op:kind", "lsn", "source.ts_ms:at"), add_fields_prefix="dbz.")
    row = {"id": 7, "__op": "mine", "dbz.kind": "c", "dbz.lsn": 100, "dbz.at": 5000}
    got = change(decoder(modes).decode(message(row)))
    assert (got.op, got.position, got.committed_ms, got.columns) == ("c", (100,), 5000, {"id": 7, "__op": "mine"})
    only_prefix = ConnectorModes(add_fields_prefix="dbz.", add_headers_prefix="h-")
    row = {"id": 7, "dbz.op": "c", "dbz.lsn": 100}
    got = change(decoder(only_prefix).decode(message(row, None, {"h-source_ts_ms": b"5000"})))
    assert (got.op, got.position, got.committed_ms, got.columns) == ("c", (100,), 5000, {"id": 7})


def test_without_a_prefix_only_named_fields_are_taken_off() -> None:
    """`name`, `table` or `id` could be anybody's columns."""
    modes = ConnectorModes(unwrapped=True, add_fields_prefix="")
    row = {"id": 7, "name": "x", "op": "c", "lsn": 3}
    assert change(decoder(modes).decode(message(row))).columns == row
    named = ConnectorModes(add_fields=("op", "lsn"), add_fields_prefix="")
    got = change(decoder(named).decode(message(row)))
    assert (got.op, got.position, got.columns) == ("c", (3,), {"id": 7, "name": "x"})


def test_a_rewritten_delete_gives_its_key_and_nothing_else() -> None:
    """Its other columns hold zero values, which may not even fit their types."""
    row = {"id": 7, "placed_at": "", "total": 0} | FULL | {"__op": "d", "__deleted": "true"}
    got = change(decoder(types={"placed_at": "timestamptz"}).decode(message(row, {"id": 7})))
    assert (got.kind, got.op, got.key, got.columns, got.position) == (Kind.DELETE, "d", "7", {}, (100,))
    bare = change(decoder().decode(message({"id": 7, "total": 0, "__deleted": "true"}, {"id": 7})))
    assert (bare.kind, bare.key, bare.position) == (Kind.DELETE, "7", None)


def test_a_delete_by_its_operation_alone_is_a_delete() -> None:
    """An older transform may add `__op` without `__deleted`."""
    assert change(decoder().decode(message({"id": 7, "__op": "d"}, {"id": 7}))).kind is Kind.DELETE


def test_a_null_value_is_the_delete_itself_in_tombstone_mode() -> None:
    """Headers that tell its place in the log make it a delete like any other; `__op` alone comes with every
    tombstone and tells nothing, nor does a message without headers: those delete the row and clear its position."""
    headers = {name: str(value).encode() for name, value in (FULL | {"__op": "d"}).items()}
    got = change(decoder().decode(message(None, {"id": 7}, headers)))
    assert (got.kind, got.op, got.key, got.position, got.committed_ms) == (Kind.DELETE, "d", "7", (100,), 5000)
    for few in ({}, {"__op": b"d"}):
        got = change(decoder().decode(message(None, {"id": 7}, few)))
        assert (got.kind, got.op, got.key, got.position) == (Kind.TOMBSTONE, "tombstone", "7", None)


def test_a_lone_tombstone_is_folded_as_a_delete_and_not_skipped() -> None:
    """In tombstone mode no delete comes before it, in rewrite-with-tombstone mode one does."""
    state = PartitionState(TopicPartition(TOPIC, "id", 0), Position(1, -1))
    batch = DecodedBatch(decoder(), {(TOPIC, 0): state})
    batch.add(message({"id": 7} | FULL, {"id": 7}, offset=0))
    batch.add(message(None, {"id": 7}, offset=1))
    batch.add(message({"id": 8, "__deleted": "true"} | FULL, {"id": 8}, offset=2))
    batch.add(message(None, {"id": 8}, offset=3))
    assert [(each.kind, each.key) for _, each in batch.changes] == [
        (Kind.UPSERT, "7"),
        (Kind.TOMBSTONE, "7"),
        (Kind.DELETE, "8"),
    ]
    [move] = batch.moves({})
    assert (move.next, move.skipped) == (4, 1)


def test_a_delete_that_cannot_name_its_row_is_a_reject() -> None:
    """Under another message key a null value names no row. Where it stands for the delete, it may not be skipped;
    where the delete was rewritten, or comes as an envelope, it may."""
    subject, key = decoder(), {"customer": 3}
    assert isinstance(subject.decode(message(None, key)), Skip)
    subject.decode(message({"id": 7} | FULL, key))
    refused = reject(subject.decode(message(None, key)))
    assert refused.reason is RejectReason.NO_KEY
    assert "delete.tombstone.handling.mode=rewrite" in refused.detail
    subject.decode(message({"id": 7, "__deleted": "false"} | FULL, key))
    skipped = subject.decode(message(None, key))
    assert isinstance(skipped, Skip)
    assert skipped.reason is SkipReason.TOMBSTONE_OF_OTHER_KEY


def test_key_changes_are_linked_by_their_headers_in_every_mode() -> None:
    """The rewritten delete, or the tombstone that stands for it, knows the new key, the new row the old one."""
    new, old = {"__debezium_newkey": b'{"id":8}'}, {"__debezium_oldkey": b'{"id":7}'}
    rewritten = change(decoder().decode(message({"id": 7, "__deleted": "true"} | FULL, {"id": 7}, new)))
    tombstone = change(decoder().decode(message(None, {"id": 7}, new)))
    assert (rewritten.new_key, tombstone.new_key) == ("8", "8")
    for added in ({"__op": "c"}, {"__lsn": 100}):
        came = change(decoder().decode(message({"id": 8, "big": PLACEHOLDER} | added, {"id": 8}, old)))
        assert (came.old_key, came.unavailable, came.columns) == ("7", ("big",), {"id": 8})


@pytest.mark.parametrize("added", [{"__snapshot": "incremental", "__lsn": 100}, {"__lsn": None}])
def test_incremental_snapshot_rows_have_no_place_in_time(added: dict[str, Any]) -> None:
    """By their mark, or by PostgreSQL's position that is there and null. That is no oddity."""
    row = {"id": 7, "__op": "r", "__source_ts_ms": 5000} | added
    got = change(decoder().decode(message(row)))
    assert (got.snapshot, got.position, got.committed_ms, got.oddity) == (True, None, None, None)
    plain = change(decoder().decode(message({"id": 7, "__op": "r", "__source_ts_ms": 5000, "__lsn": 100})))
    assert (plain.snapshot, plain.position, plain.committed_ms) == (True, (100,), 5000)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ({"ts_ms": 1}, SkipReason.HEARTBEAT),
        ({"status": "END", "id": "1:2", "event_count": 1, "data_collections": [], "ts_ms": 1}, SkipReason.TRANSACTION),
        ({"source": {}, "databaseName": "s", "ddl": "x"}, SkipReason.SCHEMA_CHANGE),
        ({"op": "m", "source": {}, "message": {"prefix": "p", "content": "aGk="}}, SkipReason.LOGICAL_MESSAGE),
        ({"id": "a", "type": "log", "data": "{}", "__op": "c"}, SkipReason.SIGNAL),
    ],
)
def test_what_the_transform_passes_unchanged_is_no_row(value: Any, reason: SkipReason) -> None:
    """It flattens rows alone: heartbeats and their like keep their form, also where the mapping declares flat rows."""
    got = decoder(UNWRAPPED).decode(message(value))
    assert isinstance(got, Skip)
    assert got.reason is reason


def test_an_envelope_is_one_also_where_flat_rows_are_declared() -> None:
    """The transform may be put in front of a topic that already holds envelopes."""
    block = {"connector": "postgresql", "name": "oms", "db": "shop", "schema": "public", "table": "orders", "lsn": 9}
    value = {"before": None, "after": {"id": 1}, "op": "c", "source": block | {"ts_ms": 5}}
    got = change(decoder(UNWRAPPED).decode(message(value)))
    assert (got.columns, got.position) == ({"id": 1}, (9,))


NAMES = st.sampled_from(["id", "__op", "__lsn", "__deleted", "__source_ts_ms", "__file", "__pos", "__snapshot", "x"])
SCALARS = st.none() | st.booleans() | st.integers(-(2**64), 2**64) | st.floats() | st.text(max_size=4) | st.just([1])


@given(row=st.dictionaries(NAMES, SCALARS), headers=st.dictionaries(NAMES, st.none() | st.binary(max_size=6)))
def test_whatever_is_added_is_decoded_without_an_exception(row: dict[str, Any], headers: dict[str, Any]) -> None:
    """Values of any type under the added names are some outcome, in a row and in headers."""
    for modes in (UNWRAPPED, ConnectorModes()):
        for value in (row, None):
            sent = Message(TOPIC, 0, 1, None, b'{"id":1}', json.dumps(value).encode(), list(headers.items()))
            assert isinstance(decoder(modes).decode(sent), Change | Skip | Reject)
