"""The decoder, message by message: what is a change, what a skip, what a reject, and which row it is about."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.ingest.change import (
    UNCOUNTED,
    Change,
    Decoded,
    Kind,
    Message,
    Oddity,
    Reject,
    RejectReason,
    Skip,
    SkipReason,
)
from daemon.ingest.debezium import Decoder
from daemon.mapping.structure import ConnectorModes, Role, Source, Structure

TOPIC = "oms.public.orders"
POSTGRES = {"connector": "postgresql", "name": "oms", "db": "shop", "schema": "public", "table": "orders"}
CLOUD_EVENT = {
    "id": "name:oms;lsn:1",
    "source": "/debezium/postgresql/oms",
    "specversion": "1.0",
    "type": "io.debezium.connector.postgresql.DataChangeEvent",
    "data": {"before": None, "after": {"id": 1}, "op": "c"},
}
PLACEHOLDER = "__debezium_unavailable_value"
STRING = ConnectorModes(decimal_handling_mode="string")
DOUBLE = ConnectorModes(decimal_handling_mode="double")


def source(key: tuple[str, ...] | None = ("id",), **fields: Any) -> Source:
    """The source under test."""
    return Source("orders", TOPIC, Role.ROOT, key=key, **fields)


def decoder(of: Source | None = None) -> Decoder:
    """A decoder of one source."""
    only = of or source()
    return Decoder(Structure("orders", {"orders": only}, "v1"))


def message(value: Any, key: Any = None, headers: Mapping[str, Any] | None = None) -> Message:
    """A message of the given JSON; bytes go as they are, None is null."""
    pairs = [(name, _bytes(content)) for name, content in (headers or {}).items()]
    return Message(TOPIC, 0, 7, 1000, _bytes(key), _bytes(value), pairs or None)


def _bytes(content: Any) -> bytes | None:
    return content if content is None or isinstance(content, bytes) else orjson.dumps(content)


def event(op: str = "u", **fields: Any) -> dict[str, Any]:
    """An envelope; `source` fields are added to a PostgreSQL source block."""
    block = POSTGRES | {"lsn": 100, "ts_ms": 5000, "snapshot": "false"} | fields.pop("source", {})
    return {"before": None, "after": None, "op": op, "ts_ms": 9, "source": block} | fields


def change(decoded: Decoded) -> Change:
    """The outcome, which must be a change."""
    assert isinstance(decoded, Change), decoded
    return decoded


def reject(decoded: Decoded) -> Reject:
    """The outcome, which must be a reject."""
    assert isinstance(decoded, Reject), decoded
    return decoded


def wrapped(payload: Any, fields: list[dict[str, Any]]) -> dict[str, Any]:
    """A value as JsonConverter writes it with schemas.enable=true."""
    row = {"type": "struct", "optional": True, "name": "oms.public.orders.Value", "fields": fields}
    sides = [row | {"field": "before"}, row | {"field": "after"}, {"type": "string", "field": "op"}]
    return {"schema": {"type": "struct", "fields": sides, "name": "oms.public.orders.Envelope"}, "payload": payload}


def decimal_field(name: str, scale: int) -> dict[str, Any]:
    """The schema of a decimal column in precise mode."""
    return {
        "type": "bytes",
        "name": "org.apache.kafka.connect.data.Decimal",
        "parameters": {"scale": str(scale)},
        "field": name,
    }


def test_an_update_is_a_full_image_of_its_row() -> None:
    """Columns, key, position, lineage and commit time of a plain update."""
    value = event(after={"id": 7, "total": "1.50", "note": None})
    got = change(decoder().decode(message(value, {"id": 7})))
    assert (got.source, got.key, got.kind, got.op) == ("orders", "7", Kind.UPSERT, "u")
    assert got.columns == {"id": 7, "total": "1.50", "note": None}
    assert (got.lineage, got.position, got.committed_ms) == ("postgresql/oms/shop/public/orders", (100,), 5000)
    assert (got.unavailable, got.snapshot, got.old_key, got.new_key, got.oddity) == ((), False, None, None, None)


@pytest.mark.parametrize("wrap_key", [False, True])
@pytest.mark.parametrize("wrap_value", [False, True])
@pytest.mark.parametrize("declared_key", [("number",), None])
def test_key_and_value_may_carry_schemas_independently(
    wrap_key: bool, wrap_value: bool, declared_key: tuple[str, ...] | None
) -> None:
    """A precise decimal key gives one and the same row key in all four combinations, for rows and tombstones."""
    field, payload = decimal_field("number", 2), {"number": "AfQ="}
    key: Any = {"schema": {"type": "struct", "fields": [field]}, "payload": payload} if wrap_key else payload
    body = event(after=dict(payload))
    subject = decoder(source(key=declared_key, types={"number": "numeric(12,2)"}))
    got = change(subject.decode(message(wrapped(body, [field]) if wrap_value else body, key)))
    assert got.columns == {"number": Decimal("5.00")}
    assert got.key == "5"
    tombstone = change(subject.decode(message(None, key)))
    assert (tombstone.kind, tombstone.key) == (Kind.TOMBSTONE, "5")


def test_a_schema_that_changes_midway_is_followed() -> None:
    """Old and new schema may alternate between partitions; each message is read by its own."""
    subject = decoder()
    two, four = [decimal_field("total", 2)], [decimal_field("total", 4)]
    for fields, total in ((two, "5.00"), (four, "0.0500"), (two, "5.00"), (four, "0.0500")):
        value = wrapped(event(after={"id": 1, "total": "AfQ="}), fields)
        assert change(subject.decode(message(value))).columns["total"] == Decimal(total)
    assert subject.columns_seen()["orders"]["total"] == "Decimal(4)"


def test_a_schema_behind_its_payload_is_read_too() -> None:
    """The order in which the wrapper's two fields come does not matter."""
    whole = wrapped(event(after={"id": 1, "total": "AfQ="}), [decimal_field("total", 2)])
    turned = {"payload": whole["payload"], "schema": whole["schema"]}
    subject = decoder()
    for value in (turned, turned, whole, whole):
        assert change(subject.decode(message(value))).columns["total"] == Decimal("5.00")


def test_the_declared_key_wins_over_the_message_key() -> None:
    """Several columns make one canonical key, in the declared order, whatever the message key says."""
    value = event(after={"line": 2, "order_no": "A", "extra": 1})
    got = change(decoder(source(key=("order_no", "line"))).decode(message(value, {"line": 9})))
    assert got.key == '["A","2"]'


def test_without_a_declared_key_the_message_key_names_the_columns() -> None:
    """The fields of the message key, with the row's values."""
    value = event(after={"shop": 3, "id": "x"})
    assert change(decoder(source(key=None)).decode(message(value, {"shop": 3, "id": "x"}))).key == '["3","x"]'
    assert change(decoder(source(key=None)).decode(message(value, b"5"))).key == "5"


def test_a_delete_takes_nothing_but_its_key_from_before() -> None:
    """Under the default replica identity the other columns hold zero values, which may not even fit their types."""
    subject = decoder(source(types={"placed_at": "timestamptz", "id": "bigint"}))
    value = event("d", before={"id": 7, "placed_at": "", "total": "0.00"})
    got = change(subject.decode(message(value, {"id": 7})))
    assert (got.kind, got.key, got.columns, got.oddity) == (Kind.DELETE, "7", {}, None)


@pytest.mark.parametrize("zero", [0, "", False, 0.0, "0.00", "AA==", "1970-01-01T00:00:00Z"])
def test_a_message_key_of_zeros_is_reported(zero: Any) -> None:
    """Message key columns outside the identity: the row is told by `before`, the message is counted as odd."""
    value = event("d", before={"id": 9, "order_id": zero})
    got = change(decoder().decode(message(value, {"order_id": zero})))
    assert (got.key, got.oddity) == ("9", "impossible_message_key")


def test_a_real_message_key_beside_the_row_key_is_not_odd() -> None:
    """With full identity the message key holds the real value."""
    value = event("d", before={"id": 9, "order_id": 1003})
    assert change(decoder().decode(message(value, {"order_id": 1003}))).oddity is None


@pytest.mark.parametrize(
    ("before", "key"),
    [({"order_no": "", "id": 5}, {"id": 5}), ({"id": 5}, {"id": 5}), (None, {"id": 5}), (None, None), (3, {"id": 5})],
)
def test_a_delete_without_a_readable_key_is_a_reject(before: Any, key: Any) -> None:
    """A declared key outside the replica identity comes as a zero value: that names no row."""
    got = reject(decoder(source(key=("order_no",))).decode(message(event("d", before=before), key)))
    assert (got.reason, got.key) == (RejectReason.NO_KEY, None)
    assert "`key:`" in got.detail


def test_a_delete_without_before_is_told_by_an_equal_message_key() -> None:
    """Some connectors leave `before` out; the message key does where it is the row key."""
    assert change(decoder().decode(message(event("d"), {"id": 7}))).key == "7"


@pytest.mark.parametrize(
    ("declared", "key", "outcome"),
    [
        (("id",), {"id": 7}, "7"),
        (("id",), {"schema": {"type": "struct", "fields": []}, "payload": {"id": 7}}, "7"),
        (("id",), 7, "7"),
        (("a", "b"), {"b": 2, "a": 1}, '["1","2"]'),
        (None, {"id": 7}, "7"),
        (("id",), {"order_id": 7}, SkipReason.TOMBSTONE_OF_OTHER_KEY),
        (("id",), {"id": 7, "shop": 1}, SkipReason.TOMBSTONE_OF_OTHER_KEY),
        (("id",), {"id": None}, SkipReason.TOMBSTONE_OF_OTHER_KEY),
        (("id",), None, SkipReason.TOMBSTONE_OF_OTHER_KEY),
        (None, None, SkipReason.TOMBSTONE_OF_OTHER_KEY),
    ],
)
@pytest.mark.parametrize("value", [None, b"null", {"schema": None, "payload": None}])
def test_a_tombstone_counts_only_for_its_own_row_key(
    declared: tuple[str, ...] | None, key: Any, outcome: Any, value: Any
) -> None:
    """A null value whose key is not exactly the row's key would delete the wrong rows."""
    got = decoder(source(key=declared)).decode(message(value, key))
    if isinstance(outcome, SkipReason):
        assert isinstance(got, Skip)
        assert got.reason is outcome
    else:
        assert change(got).key == outcome
        assert (change(got).kind, change(got).position) == (Kind.TOMBSTONE, None)


def test_key_changes_are_linked_by_their_headers() -> None:
    """The delete half knows the new key, the insert half the old one; headers of other columns say nothing."""
    field = {"type": "int64", "field": "id"}
    new = {"schema": {"type": "struct", "fields": [field]}, "payload": {"id": 8}}
    subject = decoder()
    gone = change(
        subject.decode(message(event("d", before={"id": 7}), {"id": 7}, {"x": b"", "__debezium.newkey": new}))
    )
    came = change(subject.decode(message(event("c", after={"id": 8}), {"id": 8}, {"__debezium.oldkey": {"id": 7}})))
    other = change(subject.decode(message(event("c", after={"id": 8}), None, {"__debezium.oldkey": {"order_id": 1}})))
    broken = change(subject.decode(message(event("c", after={"id": 8}), None, {"__debezium.oldkey": b"{"})))
    assert (gone.key, gone.new_key, came.key, came.old_key) == ("7", "8", "8", "7")
    assert (other.old_key, broken.old_key) == (None, None)


@pytest.mark.parametrize(
    ("value", "modes"),
    [
        (PLACEHOLDER, ConnectorModes()),
        ([PLACEHOLDER], ConnectorModes()),
        (base64.b64encode(PLACEHOLDER.encode()).decode(), ConnectorModes()),
        (PLACEHOLDER.encode().hex(), ConnectorModes(binary_handling_mode="hex")),
        (list(PLACEHOLDER.encode()), ConnectorModes()),
        ({PLACEHOLDER: PLACEHOLDER}, ConnectorModes()),
        ("n/a", ConnectorModes(unavailable_value_placeholder="n/a")),
        ("n/a", ConnectorModes(unavailable_value_placeholder="hex:6e2f61")),
    ],
)
def test_an_unavailable_value_is_no_value(value: Any, modes: ConnectorModes) -> None:
    """Every form of the placeholder is left out of the columns and named, before any conversion looks at it."""
    subject = decoder(source(modes=modes, types={"blob": "smallint[]"} if value != PLACEHOLDER else {}))
    got = change(subject.decode(message(event(after={"id": 1, "blob": value, "note": "x"}))))
    assert got.columns == {"id": 1, "note": "x"}
    assert got.unavailable == ("blob",)


def test_a_text_that_only_contains_the_placeholder_is_a_text() -> None:
    """The whole value has to be the placeholder."""
    got = change(decoder().decode(message(event(after={"id": 1, "note": f"{PLACEHOLDER}!"}))))
    assert got.columns["note"] == f"{PLACEHOLDER}!"


def test_dropped_columns_never_reach_the_row() -> None:
    """`drop:` leaves columns out, also a key column once the key is made; `sources` still lists them."""
    subject = decoder(source(drop=frozenset({"note", "id", "absent"})))
    got = change(subject.decode(message(event(after={"id": 1, "note": "x", "total": 2}))))
    assert (got.key, got.columns) == ("1", {"total": 2})
    assert subject.columns_seen() == {"orders": {"id": "integer", "note": "text", "total": "integer"}}


@pytest.mark.parametrize("mark", ["true", "first", "last", "first_in_data_collection", "last_in_data_collection", True])
def test_snapshot_rows_keep_the_snapshots_position(mark: Any) -> None:
    """All marks of an initial snapshot count, with the log position it was taken at."""
    got = change(decoder().decode(message(event("r", after={"id": 1}, source={"snapshot": mark}))))
    assert (got.snapshot, got.position, got.committed_ms) == (True, (100,), 5000)


def test_incremental_snapshot_rows_have_no_place_in_time() -> None:
    """Their time is the connector's clock, so neither position nor commit time is taken."""
    block = {"snapshot": "incremental", "lsn": None}
    got = change(decoder().decode(message(event("r", after={"id": 1}, source=block))))
    assert (got.snapshot, got.position, got.committed_ms) == (True, None, None)


@pytest.mark.parametrize(
    ("block", "position"),
    [
        ({"connector": "postgresql", "lsn": None}, None),
        ({"connector": "mysql", "file": "mysql-bin.000012", "pos": 345, "row": 2}, (12, 345, 2)),
        ({"connector": "mariadb", "file": "mariadb-bin.000001", "pos": 4}, (1, 4, 0)),
        ({"connector": "mysql", "file": "", "pos": 0}, None),
        (
            {"connector": "sqlserver", "commit_lsn": "00000027:00000758:0005", "change_lsn": "00000027:00000758:0003",
             "event_serial_no": 2},
            (39, 1880, 5, 39, 1880, 3, 2),
        ),
        ({"connector": "sqlserver", "commit_lsn": "0027:0758:0005", "change_lsn": None}, (39, 1880, 5, 0, 0, 0, 0)),
        ({"connector": "sqlserver", "commit_lsn": "x:y:z"}, None),
        ({"connector": "oracle", "scn": "123"}, None),
    ],
)  # fmt: skip
def test_positions_are_numbers_of_the_connectors_log(block: dict[str, Any], position: tuple[int, ...] | None) -> None:
    """Each kind of log has its own tuple; a kind that is not known has none."""
    got = change(decoder().decode(message(event(after={"id": 1}, source={"lsn": None} | block))))
    assert got.position == position


def test_a_log_that_is_not_known_is_said_once() -> None:
    """Changes of other connectors fold in Kafka's order alone; incremental snapshots have no position by nature."""
    subject = decoder()
    block = {"connector": "oracle", "scn": "123", "lsn": None}
    incremental = event("r", after={"id": 1}, source={"snapshot": "incremental", "lsn": None})
    other = event(after={"id": 1}, source=block)
    assert change(subject.decode(message(incremental))).oddity is None
    first, second = (replace(message(other), offset=offset) for offset in (1, 2))
    told = [change(subject.decode(sent)).oddity for sent in (first, second, first)]
    assert told == [Oddity.NO_LOG_POSITION, None, Oddity.NO_LOG_POSITION]


@pytest.mark.parametrize("time", [0, None, "x"])
def test_a_commit_time_that_says_nothing_is_unknown(time: Any) -> None:
    """Zero and null are no times."""
    assert change(decoder().decode(message(event(after={"id": 1}, source={"ts_ms": time})))).committed_ms is None


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (event("t"), SkipReason.TRUNCATE),
        (event("m", message={"prefix": "p", "content": "aGk="}), SkipReason.LOGICAL_MESSAGE),
        ({"ts_ms": 1}, SkipReason.HEARTBEAT),
        ({"status": "END", "id": "1:2", "event_count": 1, "data_collections": [], "ts_ms": 1}, SkipReason.TRANSACTION),
        (
            {"source": POSTGRES, "ts_ms": 1, "databaseName": "s", "ddl": "x", "tableChanges": []},
            SkipReason.SCHEMA_CHANGE,
        ),
        (event("c", after={"id": "a", "type": "snapshot-window-open", "data": None}), SkipReason.SIGNAL),
        (event("c", after={"id": "b", "type": "execute-snapshot", "data": "{}"}), SkipReason.SIGNAL),
    ],
)
def test_messages_about_no_row_are_skipped_by_name(value: Any, reason: SkipReason) -> None:
    """Heartbeats and their like may land on a mapped topic."""
    got = decoder().decode(message(value, {"serverName": "oms"}))
    assert isinstance(got, Skip)
    assert got.reason is reason


@pytest.mark.parametrize(
    ("value", "reason", "words"),
    [
        (b"{", RejectReason.NOT_JSON, "JsonConverter"),
        (b"", RejectReason.NOT_JSON, "JsonConverter"),
        (b"\x00\x00\x00\x00\x07abc", RejectReason.NOT_JSON, "Avro"),
        (b"\xff\xfe", RejectReason.NOT_JSON, "JsonConverter"),
        (b'{"a":"\\ud800"}', RejectReason.NOT_JSON, "JsonConverter"),
        (b"[" * 100_000, RejectReason.NOT_JSON, "JsonConverter"),
        ([1], RejectReason.NOT_DEBEZIUM, "a list"),
        (b"\x00\x00\x00\x00\x07abc", RejectReason.NOT_JSON, "kafka.schema_registry_url"),
        (b'\x00\x00\x00\x00\x07{"a":1}', RejectReason.NOT_JSON, "JSON Schema"),
        ({"id": 1}, RejectReason.NOT_DEBEZIUM, "`unwrapped: true`"),
        ({"id": 1, "op": "u", "source": "web"}, RejectReason.NOT_DEBEZIUM, "no Debezium envelope"),
        (CLOUD_EVENT, RejectReason.NOT_DEBEZIUM, "CloudEvent"),
        (event("z"), RejectReason.NOT_DEBEZIUM, "'op'"),
        (event("u"), RejectReason.NOT_DEBEZIUM, "'after'"),
        (event(after={"id": 7, "total": "seven"}), RejectReason.BAD_VALUE, "column 'total' (numeric(12,2))"),
        (event(after={"id": 7, "total": 2, "n": "MQ=="}), RejectReason.BAD_VALUE, "column 'n' (date)"),
    ],
)
def test_what_cannot_be_decoded_is_a_reject_that_knows_its_row(value: Any, reason: RejectReason, words: str) -> None:
    """The detail names place and cure; the message key tells the row even where the value is beyond reading."""
    subject = decoder(source(types={"total": "numeric(12,2)", "n": "date"}, modes=STRING))
    sent = message(value, {"id": 7})
    got = reject(subject.decode(sent))
    assert (got.reason, got.source, got.key, got.message) == (reason, "orders", "7", sent)
    assert words in got.detail
    assert reject(subject.decode(message(value, {"order_id": 7}))).key is None
    assert reject(subject.decode(message(value, b"{"))).key is None


def test_a_missing_key_column_is_a_reject_with_the_cure() -> None:
    """Missing, null and composite values cannot be keys."""
    for row in ({}, {"id": None}, {"id": [1]}):
        got = reject(decoder().decode(message(event(after=row))))
        assert (got.reason, got.key) == (RejectReason.NO_KEY, None)
        assert "`key:` of source 'orders'" in got.detail
    keyless = reject(decoder(source(key=None)).decode(message(event(after={"id": 1}))))
    assert keyless.reason is RejectReason.NO_KEY


def test_a_decimal_without_scale_asks_for_its_type() -> None:
    """Precise decimals of a schemaless message need numeric(p,s) or another mode."""
    got = reject(decoder(source(types={"total": "numeric"})).decode(message(event(after={"id": 1, "total": "AOWa"}))))
    assert got.reason is RejectReason.UNDECLARED_TYPE
    assert "numeric(p,s)" in got.detail


def test_a_topic_of_no_source_is_a_reject() -> None:
    """The consumer should not have asked for it."""
    stray = replace(message(event(after={"id": 1})), topic="elsewhere")
    assert reject(decoder().decode(stray)).source is None


@pytest.mark.parametrize(
    ("text", "types", "kept"),
    [
        ("123456789012345678901234567890", {}, 123456789012345678901234567890),
        ("18446744073709551616", {}, 2**64),
        ("123456789012345678901234567890", {"n": "numeric"}, Decimal(123456789012345678901234567890)),
        ("1234567890123456.7890", {"n": "numeric"}, Decimal("1234567890123456.7890")),
        ("1234567890123456.789", {"n": "numeric(30,4)"}, Decimal("1234567890123456.7890")),
        ("0.1", {}, 0.1),
        ("1e300", {}, Decimal("1e300")),
        ("NaN", {}, "NaN"),
        ("-Infinity", {}, "-Infinity"),
    ],
)
def test_no_digit_of_a_json_number_is_lost(text: str, types: dict[str, str], kept: Any) -> None:
    """Numbers beyond 64 bits or a float's digits are read exactly; ordinary floats stay floats."""
    raw = orjson.dumps(event(after={"id": 1, "n": "@"})).replace(b'"@"', text.encode())
    got = change(decoder(source(types=types)).decode(message(raw))).columns["n"]
    assert got == kept
    assert type(got) is type(kept)
    assert str(got) == str(kept)


def test_text_that_postgres_cannot_store_is_refused() -> None:
    """MySQL text may hold U+0000; in a batch it would fail all other rows. Dropping the column is a cure."""
    block = {"connector": "mysql", "file": "b.1", "pos": 1}
    sent = message(event(after={"id": 1, "note": "a\0b"}, source=block), {"id": 1})
    got = reject(decoder().decode(sent))
    assert (got.reason, got.key) == (RejectReason.BAD_VALUE, "1")
    assert "'note'" in got.detail
    assert change(decoder(source(drop=frozenset({"note"}))).decode(sent)).columns == {"id": 1}


def test_the_outbox_event_routers_output_is_named() -> None:
    """Its events are no rows; the header `id` gives it away."""
    got = reject(decoder().decode(message({"orderId": 1}, 1, {"id": b"5f6d", "eventType": b"Placed"})))
    assert got.reason is RejectReason.NOT_DEBEZIUM
    assert "outbox event router" in got.detail


def test_a_row_of_three_columns_is_a_row() -> None:
    """Only the signalling table's own kinds of signal are skipped."""
    row = {"id": 1, "type": "retail", "data": "x"}
    assert change(decoder().decode(message(event("c", after=row)))).columns == row


def test_a_key_that_changed_under_one_message_key_is_two_changes() -> None:
    """message.key.columns leaves the primary key out: one op u, whose `before` alone tells the row that is gone."""
    subject = decoder(source(key=("order_id", "line_no")))
    body = event(
        before={"order_id": 114, "line_no": 1, "memo": ""},
        after={"order_id": 114, "line_no": 70, "memo": PLACEHOLDER},
    )
    got = change(subject.decode(message(body, {"order_id": 114})))
    assert (got.key, got.old_key, got.kind, got.op, got.unavailable) == (
        '["114","70"]',
        '["114","1"]',
        Kind.UPSERT,
        "u",
        ("memo",),
    )
    assert got.then is not None
    assert (got.then.key, got.then.kind, got.then.op, got.then.columns) == ('["114","1"]', Kind.DELETE, UNCOUNTED, {})
    assert got.then.new_key == got.key
    assert (got.then.lineage, got.then.position, got.then.committed_ms) == (got.lineage, got.position, got.committed_ms)
    assert got.then.message is got.message


@pytest.mark.parametrize(
    ("op", "before"),
    [
        ("u", None),
        ("u", {"id": 7, "total": "2.00"}),
        ("u", {"id": "7"}),
        ("u", {"total": "1.00"}),
        ("u", {"id": None}),
        ("c", {"id": 8}),
        ("r", {"id": 8}),
    ],
)
def test_an_update_under_the_same_key_is_one_change(op: str, before: Any) -> None:
    """Whole before images, images without the key, and other operations say nothing of another row."""
    got = change(decoder().decode(message(event(op, before=before, after={"id": 7, "total": "1.00"}))))
    assert (got.key, got.old_key, got.then) == ("7", None, None)


def test_a_logical_routers_field_in_the_message_key_does_not_hide_the_row() -> None:
    """ByLogicalTableRouter adds the shard to the message key and to no row: tombstones still name theirs."""
    key = {"id": 7, "__dbz__physicalTableIdentifier": "shop_1"}
    assert change(decoder().decode(message(None, key))).key == "7"
    sharded = decoder(source(key=("id", "__dbz__physicalTableIdentifier")))
    assert change(sharded.decode(message(None, key))).key == '["7","shop_1"]'


@pytest.mark.parametrize(
    ("number", "oddity"),
    [("11.6", None), ("1234567890123.456", Oddity.INEXACT_DOUBLE), ("1234567890123.4567890", None), ("17", None)],
)
def test_a_decimal_that_came_as_an_inexact_double_is_flagged_and_folded(number: str, oddity: Oddity | None) -> None:
    """Beyond 15 digits a double may have lost some; text with more than a double's digits was no double."""
    raw = orjson.dumps(event(after={"id": 1, "total": "@", "rate": 1.0})).replace(b'"@"', number.encode())
    subject = decoder(source(types={"total": "numeric(30,7)", "rate": "double precision"}, modes=DOUBLE))
    got = change(subject.decode(message(raw)))
    assert (got.oddity, got.columns["total"]) == (oddity, Decimal(number))


def test_only_declared_decimals_are_flagged_as_inexact() -> None:
    """A double column may hold any digits; a decimal of a schema that says Decimal was written in full."""
    text = b"1234567890123.456"
    raw = orjson.dumps(event(after={"id": 1, "rate": "@"})).replace(b'"@"', text)
    for types in ({"rate": "double precision"}, {"total": "numeric(12,2)"}):
        assert change(decoder(source(types=types)).decode(message(raw))).oddity is None
    whole = orjson.dumps(wrapped(event(after={"id": 1, "total": "@"}), [decimal_field("total", 3)]))
    got = change(decoder(source(types={"total": "numeric(20,3)"})).decode(message(whole.replace(b'"@"', text))))
    assert (got.oddity, got.columns["total"]) == (None, Decimal(text.decode()))
    double = orjson.dumps(wrapped(event(after={"id": 1, "total": "@"}), [{"type": "double", "field": "total"}]))
    got = change(decoder(source(types={"total": "numeric(20,3)"})).decode(message(double.replace(b'"@"', text))))
    assert (got.oddity, got.columns["total"]) == (Oddity.INEXACT_DOUBLE, Decimal(text.decode()))


def test_a_connectors_own_meaning_of_a_type_needs_no_mode() -> None:
    """MySQL's times are counted in microseconds even where PostgreSQL's mode `adaptive` would count milliseconds."""
    subject = decoder(source(types={"cutoff": "time(3)"}))
    for connector, count in (("postgresql", 63000500), ("mysql", 63000500000), ("mariadb", 63000500000)):
        body = event(after={"id": 1, "cutoff": count}, source={"connector": connector})
        assert change(subject.decode(message(body))).columns["cutoff"] == "17:30:00.5"


def test_binlog_positions_grow_as_files_rotate_and_compare_within_one_servers_files() -> None:
    """The number of the file comes first, GTIDs do not matter; files of another name are another lineage."""

    def at(file: str, pos: int, row: int) -> Change:
        block = {"connector": "mysql", "file": file, "pos": pos, "row": row, "gtid": "a:7", "ts_ms": 1795576595000}
        return change(decoder().decode(message(event(after={"id": 1}, source=block))))

    path = [at("bin.000009", 900, 0), at("bin.000009", 900, 1), at("bin.000009", 1000, 0), at("bin.000010", 4, 0)]
    positions = [step.position for step in path if step.position is not None]
    assert positions == sorted(positions)
    assert len(set(positions)) == len(path)
    assert {step.lineage for step in path} == {"mysql/oms/shop/public/orders/bin"}
    assert at("other-bin.000010", 4, 0).lineage != path[-1].lineage


def test_an_unknown_declared_type_fails_at_start() -> None:
    """Not message by message."""
    with pytest.raises(ValueError, match="did you mean numeric"):
        decoder(source(types={"total": "numerc(12,2)"}))


@pytest.mark.parametrize("depth", [300, 600, 1000, 5000])
def test_deep_nesting_is_no_crash(depth: int) -> None:
    """Values and schemas nested to any depth end as some outcome."""
    nested = b"[" * depth + b"1" + b"]" * depth
    value = orjson.dumps(event(after={"id": 1, "tags": "@"})).replace(b'"@"', nested)
    assert isinstance(decoder(source(types={"tags": "date[]"})).decode(message(value)), Reject | Change)
    items = b'{"type":"array","items":' * depth + b'{"type":"string"}' + b"}" * depth
    whole = wrapped(event(after={"id": 1, "tags": None}), [{"type": "array", "items": "@", "field": "tags"}])
    assert isinstance(decoder().decode(message(orjson.dumps(whole).replace(b'"@"', items))), Reject | Change)


@pytest.mark.parametrize("parameters", [None, {}, {"scale": "x"}, {"scale": "999999999999"}, {"scale": None}])
def test_a_decimal_schema_without_a_usable_scale_is_no_guess(parameters: Any) -> None:
    """The value is refused, not taken for a whole number."""
    field = decimal_field("total", 2) | {"parameters": parameters}
    got = reject(decoder().decode(message(wrapped(event(after={"id": 1, "total": "AOWa"}), [field]))))
    assert got.reason is RejectReason.UNDECLARED_TYPE


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
ROWS = st.dictionaries(st.sampled_from(["id", "total", "placed_at", "tags", "doc", "raw"]), JSON, max_size=6) | JSON
EVENTS = st.fixed_dictionaries(
    {"op": st.sampled_from("curdtmz") | JSON, "source": st.just(POSTGRES) | ROWS},
    optional={"before": ROWS, "after": ROWS, "ts_ms": JSON},
)
SCHEMAS = st.fixed_dictionaries(
    {
        "fields": st.lists(
            st.fixed_dictionaries(
                {
                    "field": st.sampled_from(["after", "id", "total"]) | JSON,
                    "fields": st.lists(st.just(decimal_field("total", 2)) | JSON, max_size=2) | JSON,
                },
                optional={"name": JSON, "parameters": JSON, "items": JSON, "type": JSON},
            )
            | JSON,
            max_size=3,
        )
        | JSON
    }
)
VALUES = JSON | EVENTS | st.fixed_dictionaries({"schema": SCHEMAS | JSON, "payload": EVENTS | JSON})


@given(value=VALUES, key=JSON | ROWS | st.fixed_dictionaries({"schema": SCHEMAS, "payload": ROWS}), old=st.binary())
def test_any_json_is_decoded_without_an_exception(value: Any, key: Any, old: bytes) -> None:
    """Whatever arrives is a change, a skip or a reject; text and numbers of a change can be stored."""
    types = {"total": "numeric(12,2)", "placed_at": "timestamptz", "tags": "date[]", "raw": "interval"}
    sent = message(json.dumps(value).encode(), json.dumps(key).encode(), {"__debezium.oldkey": old})
    for of in (source(types=types), source(key=None, types=types, modes=STRING)):
        got = decoder(of).decode(sent)
        assert isinstance(got, Change | Skip | Reject)
        if isinstance(got, Change):
            assert isinstance(got.key, str)


@given(raw=st.binary(max_size=40), key=st.none() | st.binary(max_size=10))
def test_any_bytes_are_decoded_without_an_exception(raw: bytes, key: bytes | None) -> None:
    """Not even JSON is asked for."""
    assert isinstance(decoder().decode(message(raw, key)), Change | Skip | Reject)


def test_columns_that_are_hashed_on_the_way_in() -> None:
    """No plain address or number passes the decoder; what cannot be hashed is null, what is a hash stays."""
    hashed = {"email": "email", "phone": "phone US", "tel": "phone GB"}
    subject = decoder(source(hashed=hashed))
    row = {"id": 1, "email": " User+notes@pm.me", "phone": "(212) 555-1234", "tel": "020 7946 0958"}
    got = change(subject.decode(message(event(after=row)))).columns
    assert got == {
        "id": 1,
        "email": "d5080076cd5eb196ad2ed4d15dd93113fa810c17b51813d0bb5acc2b3f266ffc",
        "phone": "b7532e84c87df1f9f6bc4097cea3fa27db1b990bdc8d1211e59586349e5cce82",
        "tel": hashlib.sha256(b"+442079460958").hexdigest(),
    }
    assert change(subject.decode(message(event(after=got)))).columns == got
    odd = {"id": 1, "email": "no address", "phone": 2125551234, "tel": None}
    assert change(subject.decode(message(event(after=odd)))).columns == {
        "id": 1,
        "email": None,
        "phone": got["phone"],
        "tel": None,
    }
    unavailable = change(subject.decode(message(event(after={"id": 1, "email": PLACEHOLDER}))))
    assert (unavailable.columns, unavailable.unavailable) == ({"id": 1}, ("email",))


def test_hashed_columns_are_part_of_what_rows_are_read_under() -> None:
    """A column that is hashed from now on asks for a rebuild; a mapping without such columns has the version it had."""
    assert source(hashed={"email": "email"}).values_version() != source().values_version()
    assert source(hashed={"p": "phone US"}).values_version() != source(hashed={"p": "phone GB"}).values_version()
