"""Column values: what Debezium writes for each type and mode, and what the mirror keeps of it."""

from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from corpora_loader import pg_text
from hypothesis import given
from hypothesis import strategies as st

from daemon.ingest.change import RejectReason
from daemon.ingest.convert import declared_reader, schema_reader
from daemon.ingest.values import InexactError, UnreadableError, beyond_double, check_type
from daemon.mapping.column_types import ColumnType, Family, parse_type
from daemon.mapping.structure import ConnectorModes

PRECISE = ConnectorModes()
STRING = ConnectorModes(decimal_handling_mode="string")
DOUBLE = ConnectorModes(decimal_handling_mode="double")
UNSIGNED = ConnectorModes(bigint_unsigned_handling_mode="precise")


def times(mode: str) -> ConnectorModes:
    """Modes with the given time.precision.mode."""
    return ConnectorModes(time_precision_mode=mode)


def declared(text: str, value: Any, modes: ConnectorModes = PRECISE, connector: str = "") -> Any:
    """A value of a schemaless message read by its declared type."""
    reader = declared_reader(text, modes, connector)
    return value if reader is None or type(value) is reader.ready else reader.convert(value)


DECIMAL = "org.apache.kafka.connect.data.Decimal"


def with_schema(value: Any, type_: str, name: str | None = None, **schema: Any) -> Any:
    """A value read by its Connect schema."""
    reader = schema_reader({"type": type_, "name": name, **schema}, None, PRECISE)
    return value if reader is None or type(value) is reader.ready else reader.convert(value)


def unscaled(whole: int) -> str:
    """Base64 as decimal.handling.mode=precise writes it."""
    return base64.b64encode(whole.to_bytes(whole.bit_length() // 8 + 1, "big", signed=True)).decode()


@pytest.mark.parametrize(
    ("text", "modes", "value", "kept"),
    [
        ("numeric(12,2)", PRECISE, "AOWa", Decimal("587.78")),
        ("decimal(12, 2) unsigned", PRECISE, "AA==", Decimal("0.00")),
        ("numeric(5)", PRECISE, "/w==", Decimal(-1)),
        ("numeric(4,-2)", PRECISE, "DA==", Decimal(1200)),
        ("numeric", PRECISE, {"scale": 3, "value": "AeJA"}, Decimal("123.456")),
        ("numeric", PRECISE, {"scale": -2, "value": "DA=="}, Decimal(1200)),
        ("numeric(12,2)", PRECISE, 11.6, Decimal("11.60")),
        ("money", PRECISE, "BNI=", Decimal("12.34")),
        ("numeric(12,2)", STRING, "587.78", Decimal("587.78")),
        ("numeric", STRING, "1.50", Decimal("1.50")),
        ("numeric", STRING, "NaN", "NaN"),
        ("numeric", STRING, "-Infinity", "-Infinity"),
        ("numeric", STRING, "1E+3", Decimal(1000)),
        ("numeric(12,2)", DOUBLE, 587.78, Decimal("587.78")),
        ("numeric", DOUBLE, 130510.0, Decimal(130510)),
        ("numeric", DOUBLE, 1e-7, Decimal("0.0000001")),
        ("numeric", DOUBLE, "NaN", "NaN"),
        ("numeric(12,2)", DOUBLE, 3, Decimal(3)),
        ("bigint", PRECISE, 2**63 - 1, 2**63 - 1),
        ("bigint unsigned", PRECISE, "18446744073709551615", 2**64 - 1),
        ("boolean", PRECISE, True, True),
        ("boolean", PRECISE, 1, True),
        ("tinyint(1)", PRECISE, 1, 1),
        ("tinyint(1)", PRECISE, False, False),
        ("double precision", PRECISE, 0.1, 0.1),
        ("real", PRECISE, "Infinity", "Infinity"),
        ("date", PRECISE, 20404, "2025-11-12"),
        ("date", PRECISE, -1, "1969-12-31"),
        ("date", times("isostring"), "2026-03-01Z", "2026-03-01"),
        ("date", PRECISE, 2_932_897, "10000-01-01"),
        ("date", PRECISE, 2**31 - 1, "infinity"),
        ("date", PRECISE, -2147472692, "infinity"),
        ("date", PRECISE, -2147472691, "-infinity"),
        ("timestamp(3)", PRECISE, 1772352002044, "2026-03-01T08:00:02.044"),
        ("timestamp(3) without time zone", PRECISE, 1772352002000, "2026-03-01T08:00:02"),
        ("timestamp", PRECISE, 1772353276726580, "2026-03-01T08:21:16.72658"),
        ("timestamp(6) without time zone", times("connect"), 1772353276726, "2026-03-01T08:21:16.726"),
        ("timestamp", times("microseconds"), -1, "1969-12-31T23:59:59.999999"),
        ("timestamp(3)", times("microseconds"), 1772352002044000, "2026-03-01T08:00:02.044"),
        ("timestamp", times("nanoseconds"), 1772353276726586001, "2026-03-01T08:21:16.726586001"),
        ("timestamp", times("isostring"), "2026-03-01T08:21:16.726586Z", "2026-03-01T08:21:16.726586"),
        ("timestamp", PRECISE, 253402300800000000, "10000-01-01T00:00:00"),
        ("timestamp", PRECISE, 9223372036825200000, "infinity"),
        ("timestamp", PRECISE, -(2**63), "-infinity"),
        ("datetime", PRECISE, 1772352002000, "2026-03-01T08:00:02"),
        ("datetime(6)", PRECISE, 1772352002044001, "2026-03-01T08:00:02.044001"),
        ("datetime2(7)", PRECISE, 1772352002044001100, "2026-03-01T08:00:02.0440011"),
        ("timestamp(6)", PRECISE, "2026-03-01T08:21:16.7Z", "2026-03-01T08:21:16.7Z"),
        ("timestamptz", PRECISE, "2026-03-01T08:21:16.726586Z", "2026-03-01T08:21:16.726586Z"),
        ("timestamptz", PRECISE, "2026-03-01T08:21:16.500000Z", "2026-03-01T08:21:16.5Z"),
        ("timestamp with time zone", PRECISE, "2026-03-01T00:30:00+01:00", "2026-02-28T23:30:00Z"),
        ("timestamptz", PRECISE, "infinity", "infinity"),
        ("time", PRECISE, 63000500000, "17:30:00.5"),
        ("time(3)", PRECISE, 63000500, "17:30:00.5"),
        ("time(3)", times("adaptive_time_microseconds"), -63000500000, "-17:30:00.5"),
        ("time", times("adaptive_time_microseconds"), 3020399000000, "838:59:59"),
        ("time", times("connect"), 86399999, "23:59:59.999"),
        ("time", times("nanoseconds"), 63000000000001, "17:30:00.000000001"),
        ("time", times("isostring"), "17:30:00Z", "17:30:00"),
        ("timetz", PRECISE, "17:30:00Z", "17:30:00Z"),
        ("interval", PRECISE, 183600000000, 183600000000),
        ("interval", PRECISE, "P0Y0M2DT3H0M0.5S", 183600500000),
        ("interval", PRECISE, "P0Y1M0DT0H0M-0.5S", 2629799500000),
        ("interval day to second(3)", PRECISE, "P1DT0H", 86400000000),
        ("bytea", PRECISE, "KhIF", "KhIF"),
        ("bytea", ConnectorModes(binary_handling_mode="hex"), "2a1205", "KhIF"),
        ("bytea", ConnectorModes(binary_handling_mode="base64-url-safe"), "-_8=", "+/8="),
        ("bit(1)", PRECISE, True, True),
        ("bit(12)", PRECISE, "BQA=", "BQA="),
        ("jsonb", PRECISE, '{"a": 1.50}', '{"a": 1.50}'),
        ("uuid", PRECISE, "018120f8-f126-4642-b423-880b67ac56f8", "018120f8-f126-4642-b423-880b67ac56f8"),
        ("enum('a','b')", PRECISE, "a", "a"),
        (
            "point",
            PRECISE,
            {"x": 1.5, "y": 2.0, "wkb": "AA==", "srid": None},
            {"x": 1.5, "y": 2.0, "wkb": "AA==", "srid": None},
        ),
        ("text[]", PRECISE, ["a", None], ["a", None]),
        ("numeric(12,2)[]", PRECISE, ["AOWa", None, ["AA=="]], [Decimal("587.78"), None, [Decimal("0.00")]]),
        ("numeric(12,2)[]", STRING, ["1.50", None], [Decimal("1.50"), None]),
        ("money", STRING, "1.2345678E7", Decimal(12345678)),
        ("money", DOUBLE, 12.34, Decimal("12.34")),
        ("smallmoney", PRECISE, "AeJA", Decimal("12.3456")),
        ("bigint unsigned", PRECISE, -1, 2**64 - 1),
        ("bigint(20) unsigned", PRECISE, 7, 7),
        ("bigint unsigned", UNSIGNED, "AP//////////", 2**64 - 1),
        ("bigint unsigned", UNSIGNED, "Bw==", 7),
        ("bigint unsigned", UNSIGNED, 7, 7),
        ("bit(12)", ConnectorModes(binary_handling_mode="hex"), "BQA=", "BQA="),
        ("bit varying(5)", ConnectorModes(binary_handling_mode="hex"), "BQ==", "BQ=="),
        ("year(4)", PRECISE, 2026, 2026),
        ("set('a','b')", PRECISE, "a,b", "a,b"),
        ("citext", PRECISE, "Ab", "Ab"),
        ("inet", PRECISE, "10.0.0.0/8", "10.0.0.0/8"),
        ("macaddr8", PRECISE, "08:00:2b:01:02:03:04:05", "08:00:2b:01:02:03:04:05"),
        ("hstore", PRECISE, '{"a":"1"}', '{"a":"1"}'),
        ("hstore", PRECISE, {"a": "1", "b": None}, {"a": "1", "b": None}),
        ("tsvector", PRECISE, "'a':1", "'a':1"),
        ("int4multirange", PRECISE, "{[1,3)}", "{[1,3)}"),
        ("tstzrange", PRECISE, '["2026-03-01 00:00:00+00",)', '["2026-03-01 00:00:00+00",)'),
        ("xml", PRECISE, "<a/>", "<a/>"),
        ("oid", PRECISE, 16384, 16384),
        ("vector(3)", PRECISE, [1.0, 2.5, 3.0], [1.0, 2.5, 3.0]),
        ("geometry", PRECISE, {"wkb": "AA==", "srid": 4326}, {"wkb": "AA==", "srid": 4326}),
        ("uniqueidentifier", PRECISE, "018120F8-F126-4642-B423-880B67AC56F8", "018120F8-F126-4642-B423-880B67AC56F8"),
        ("datetimeoffset(7)", PRECISE, "2026-03-01T08:00:00.1234567+02:00", "2026-03-01T06:00:00.1234567Z"),
        ("bit", PRECISE, True, True),
        ("smallint[]", PRECISE, [1, "2"], [1, 2]),
        ("date[]", PRECISE, [0], ["1970-01-01"]),
    ],
)
def test_a_declared_type_reads_its_values(text: str, modes: ConnectorModes, value: Any, kept: Any) -> None:
    """Without a schema the declared type and the connector's modes give the value, type and scale included."""
    got = declared(text, value, modes)
    assert got == kept
    assert type(got) is type(kept)
    assert str(got) == str(kept)


@pytest.mark.parametrize(
    ("schema", "value", "kept"),
    [
        (
            {"type": "bytes", "name": "org.apache.kafka.connect.data.Decimal", "parameters": {"scale": "2"}},
            "AOWa",
            Decimal("587.78"),
        ),
        (
            {"type": "bytes", "name": "org.apache.kafka.connect.data.Decimal", "parameters": {"scale": "2"}},
            11.6,
            Decimal("11.60"),
        ),
        (
            {"type": "struct", "name": "io.debezium.data.VariableScaleDecimal"},
            {"scale": 0, "value": "AQ=="},
            Decimal(1),
        ),
        ({"type": "int32", "name": "org.apache.kafka.connect.data.Date"}, 0, "1970-01-01"),
        ({"type": "int32", "name": "org.apache.kafka.connect.data.Time"}, 500, "00:00:00.5"),
        ({"type": "int64", "name": "org.apache.kafka.connect.data.Timestamp"}, 1500, "1970-01-01T00:00:01.5"),
        ({"type": "int32", "name": "io.debezium.time.Date"}, 1, "1970-01-02"),
        ({"type": "string", "name": "io.debezium.time.IsoDate"}, "2026-03-01Z", "2026-03-01"),
        ({"type": "int32", "name": "io.debezium.time.Time"}, 1, "00:00:00.001"),
        ({"type": "int64", "name": "io.debezium.time.MicroTime"}, 1, "00:00:00.000001"),
        ({"type": "int64", "name": "io.debezium.time.NanoTime"}, 1, "00:00:00.000000001"),
        ({"type": "string", "name": "io.debezium.time.IsoTime"}, "01:02:03Z", "01:02:03"),
        ({"type": "string", "name": "io.debezium.time.ZonedTime"}, "01:02:03Z", "01:02:03Z"),
        ({"type": "int64", "name": "io.debezium.time.Timestamp"}, 1, "1970-01-01T00:00:00.001"),
        ({"type": "int64", "name": "io.debezium.time.MicroTimestamp"}, 1, "1970-01-01T00:00:00.000001"),
        ({"type": "int64", "name": "io.debezium.time.NanoTimestamp"}, 1, "1970-01-01T00:00:00.000000001"),
        ({"type": "string", "name": "io.debezium.time.IsoTimestamp"}, "2026-03-01T08:00:00Z", "2026-03-01T08:00:00"),
        ({"type": "string", "name": "io.debezium.time.ZonedTimestamp"}, "2026-03-01T08:00:00Z", "2026-03-01T08:00:00Z"),
        ({"type": "string", "name": "io.debezium.time.Interval"}, "P0Y0M1DT0H0M0S", 86400000000),
        ({"type": "int64", "name": "io.debezium.time.MicroDuration"}, 7, 7),
        ({"type": "int64", "name": "io.debezium.time.NanoDuration"}, 7000, 7),
        ({"type": "int32", "name": "io.debezium.time.Year"}, 2026, 2026),
        ({"type": "bytes", "name": "io.debezium.data.Bits", "parameters": {"length": "9"}}, "AQE=", "AQE="),
        (
            {"type": "array", "items": {"type": "int32", "name": "io.debezium.time.Date"}},
            [0, None],
            ["1970-01-01", None],
        ),
        ({"type": "array", "items": {"type": "string"}}, ["a"], ["a"]),
        ({"type": "float"}, "NaN", "NaN"),
        ({"type": "string"}, "587.78", "587.78"),
        ({"type": "string", "name": "io.debezium.data.Json"}, '{"a": 1.50}', '{"a": 1.50}'),
        ({"type": "string", "name": "io.debezium.data.EnumSet"}, "a,b", "a,b"),
        ({"type": "map"}, {"a": "1"}, {"a": "1"}),
        ({"type": "struct", "name": "io.debezium.data.geometry.Point"}, {"x": 1.0, "y": 2.0}, {"x": 1.0, "y": 2.0}),
        ({"type": "array", "name": "io.debezium.data.DoubleVector"}, [1.0, 2.5], [1.0, 2.5]),
        (
            {"type": "array", "items": {"type": "bytes", "name": DECIMAL, "parameters": {"scale": "2"}}},
            ["AOWa", None],
            [Decimal("587.78"), None],
        ),
    ],
)
def test_a_schema_reads_its_values(schema: dict[str, Any], value: Any, kept: Any) -> None:
    """Debezium's and Connect's logical types need no declaration."""
    got = with_schema(value, **{"type_" if name == "type" else name: part for name, part in schema.items()})
    assert got == kept
    assert type(got) is type(kept)
    assert str(got) == str(kept)


def test_a_declared_type_fills_in_where_the_schema_is_silent() -> None:
    """decimal.handling.mode=string writes a plain string even with a schema: the declared numeric makes it a number."""
    for modes in (STRING, PRECISE):
        reader = schema_reader({"type": "string"}, "numeric(12,2)", modes)
        assert reader is not None
        assert reader.convert("587.78") == Decimal("587.78")
        strings = schema_reader({"type": "array", "items": {"type": "string"}}, "numeric(12,2)[]", modes)
        assert strings is not None
        assert strings.convert(["587.78"]) == [Decimal("587.78")]


def test_a_schema_of_array_elements_wins_over_a_declared_array() -> None:
    """A declared numeric[] does not stop the elements' own schema from being followed."""
    items = {"type": "bytes", "name": DECIMAL, "parameters": {"scale": "2"}}
    reader = schema_reader({"type": "array", "items": items}, "numeric(12,2)[]", PRECISE)
    assert reader is not None
    assert reader.convert(["AOWa", None]) == [Decimal("587.78"), None]


@pytest.mark.parametrize(
    ("text", "connector", "value", "kept"),
    [
        ("time(3)", "postgresql", 63000500, "17:30:00.5"),
        ("time(3)", "mysql", 63000500000, "17:30:00.5"),
        ("time", "mariadb", -3020399000000, "-838:59:59"),
        ("time", "sqlserver", 63000000000100, "17:30:00.0000001"),
        ("time(3)", "sqlserver", 63000500, "17:30:00.5"),
        ("datetime2", "sqlserver", 1772352002044001100, "2026-03-01T08:00:02.0440011"),
        ("datetime2(3)", "sqlserver", 1772352002044, "2026-03-01T08:00:02.044"),
        ("smalldatetime", "sqlserver", 1772352000000, "2026-03-01T08:00:00"),
        ("money", "postgresql", "BNI=", Decimal("12.34")),
        ("money", "sqlserver", "AeJA", Decimal("12.3456")),
        ("bit", "sqlserver", False, False),
    ],
)
def test_a_type_means_what_it_means_in_its_database(text: str, connector: str, value: Any, kept: Any) -> None:
    """Under one and the same set of modes, MySQL's times and SQL Server's times and money differ from PostgreSQL's."""
    got = declared(text, value, PRECISE, connector)
    assert (got, type(got), str(got)) == (kept, type(kept), str(kept))


def test_a_bigint_unsigned_in_base64_asks_for_its_mode() -> None:
    """The two ways to write it look alike to a guess: the connector's mode has to be declared."""
    with pytest.raises(UnreadableError, match="bigint_unsigned_handling_mode: precise"):
        declared("bigint unsigned", "AP//////////")


@pytest.mark.parametrize(
    ("text", "beyond"),
    [
        ("123456789012345", False),
        ("0.123456789012345", False),
        ("1.50000000000000000", False),
        ("1234567890123.456", True),
        ("0.30000000000000004", True),
        ("1.0E16", True),
        ("1.2345678901234567E18", True),
        ("12345678901234567.00", False),
        ("0.1234567890123456789", False),
        ("NaN", False),
    ],
)
def test_a_double_is_exact_up_to_fifteen_digits(text: str, beyond: bool) -> None:
    """More may have been lost before they were written; but text longer than any double's is no double's."""
    assert beyond_double(Decimal(text)) is beyond
    assert beyond_double([None, [Decimal(text)]]) is beyond
    assert not beyond_double(float(text))


@pytest.mark.parametrize(
    ("text", "modes", "value"),
    [
        ("numeric(12,2)", PRECISE, "587.78"),
        ("numeric(12,2)", PRECISE, [1]),
        ("numeric", PRECISE, {"scale": "2", "value": "AQ=="}),
        ("numeric", PRECISE, {"scale": 10**9, "value": "AQ=="}),
        ("numeric(12,2)", STRING, "AOWa"),
        ("numeric(12,2)", STRING, "1E+999999999"),
        ("numeric(12,2)", STRING, True),
        ("bigint", PRECISE, "x"),
        ("bigint", PRECISE, 1.5),
        ("integer", PRECISE, True),
        ("boolean", PRECISE, "yes"),
        ("boolean", PRECISE, 2),
        ("tinyint(1)", PRECISE, "1"),
        ("double precision", PRECISE, "abc"),
        ("date", PRECISE, "1 March"),
        ("date", PRECISE, 1.5),
        ("timestamp", PRECISE, True),
        ("timestamp", PRECISE, "now"),
        ("timestamptz", PRECISE, 1772352002044),
        ("timestamptz", PRECISE, "2026-03-01T08:21:16"),
        ("timestamptz", PRECISE, "2026-02-31T08:21:16+01:00"),
        ("time", times("isostring"), 5),
        ("interval", PRECISE, "P"),
        ("interval", PRECISE, "two days"),
        ("bytea", ConnectorModes(binary_handling_mode="hex"), "xyz"),
        ("bytea", ConnectorModes(binary_handling_mode="hex"), 5),
        ("text[]", PRECISE, "{a,b}"),
        ("date[]", PRECISE, "{a,b}"),
    ],
)
def test_a_value_that_does_not_fit_is_refused_without_being_shown(text: str, modes: ConnectorModes, value: Any) -> None:
    """The error tells the type that came and the one that was wanted; arrays of plain elements are not looked into."""
    if text == "text[]":
        assert declared(text, value, modes) == value
        return
    with pytest.raises(UnreadableError) as raised:
        declared(text, value, modes)
    assert raised.value.reason is RejectReason.BAD_VALUE
    if isinstance(value, str) and len(value) > 3:
        assert value not in str(raised.value)


def test_an_unscaled_decimal_without_scale_asks_for_a_declaration() -> None:
    """Base64 of an unscaled number cannot be read where only `numeric` is declared: the text names both cures."""
    with pytest.raises(UnreadableError, match=r"numeric\(p,s\).*decimal\.handling\.mode=string") as raised:
        declared("numeric", "AOWa")
    assert raised.value.reason is RejectReason.UNDECLARED_TYPE


@pytest.mark.parametrize("value", [0.30000000000000004, 1e20, -1e16])
def test_a_float_that_may_have_lost_digits_is_read_again(value: float) -> None:
    """A decimal that came as a JSON number of more digits than a float keeps is never taken from the float."""
    with pytest.raises(InexactError):
        declared("numeric", value, DOUBLE)


@given(whole=st.integers(-(10**60), 10**60))
def test_decimals_survive_every_mode(whole: int) -> None:
    """Base64, variable scale and text give the same number with the same scale, however many digits it has."""
    number = Decimal((int(whole < 0), tuple(map(int, str(abs(whole)))), -4))
    coded = unscaled(whole)
    for got in (
        declared("numeric(40,4)", coded),
        declared("numeric", {"scale": 4, "value": coded}),
        declared("numeric(40,4)", format(number, "f"), STRING),
    ):
        assert isinstance(got, Decimal)
        assert got == number
        assert got.as_tuple().exponent == -4


@given(moment=st.datetimes(min_value=datetime(1, 1, 2), max_value=datetime(9999, 12, 30)))  # noqa: DTZ001 # local times
def test_timestamps_agree_in_every_unit(moment: datetime) -> None:
    """The same moment in micro- and nanoseconds and as ISO text reads alike, and is what isoformat says."""
    micros = (moment.replace(tzinfo=UTC) - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
    text = moment.isoformat()
    text = text.rstrip("0") if "." in text else text
    assert declared("timestamp", micros) == text
    assert declared("timestamp", text + "Z", times("isostring")) == text
    if abs(micros) < 2**53:
        assert declared("timestamp", micros * 1000, times("nanoseconds")) == text


@given(days=st.integers(-4_000_000, 2_900_000), cycles=st.integers(-3, 3))
def test_far_dates_repeat_after_four_hundred_years(days: int, cycles: int) -> None:
    """Month and day do not change over a whole cycle of the calendar, on either side of the years that Python knows."""
    assert declared("date", days)[-6:] == declared("date", days + cycles * 146_097)[-6:]


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        ("NUMERIC( 12 , 2 )", ColumnType(Family.DECIMAL, 12, 2)),
        ("character varying(20)", ColumnType(Family.PLAIN)),
        ("timestamp(3) with time zone", ColumnType(Family.ZONED_TIMESTAMP, 3)),
        ("time without time zone", ColumnType(Family.TIME)),
        ("double precision", ColumnType(Family.FLOAT)),
        ("bigint(20) unsigned zerofill", ColumnType(Family.UNSIGNED_BIGINT)),
        ("int unsigned", ColumnType(Family.INTEGER)),
        ("bit varying(5)", ColumnType(Family.BITS)),
        ("bit(1)", ColumnType(Family.BOOLEAN)),
        ("money", ColumnType(Family.MONEY)),
        ("nvarchar(max)", ColumnType(Family.PLAIN)),
        ("int[3][]", ColumnType(Family.ARRAY, element=ColumnType(Family.ARRAY, element=ColumnType(Family.INTEGER)))),
    ],
)
def test_type_texts_of_three_databases_are_known(text: str, parsed: ColumnType) -> None:
    """Spelling, case, blanks and attributes do not matter."""
    assert parse_type(text) == parsed


def test_an_absurd_scale_is_refused() -> None:
    """A scale beyond what any database holds would only cost memory."""
    with pytest.raises(ValueError, match="scale"):
        check_type("numeric(5,99999)")


@pytest.mark.parametrize(
    ("text", "hint"), [("numerc(12,2)", "numeric"), ("timestmptz", "timestamptz"), ("sales_kind", "text"), ("", "text")]
)
def test_an_unknown_type_text_names_the_near_miss(text: str, hint: str) -> None:
    """A slip of the pen is told when the mapping is loaded; a type of one's own is declared as text."""
    with pytest.raises(ValueError, match=hint):
        check_type(text)


@pytest.mark.parametrize(
    ("value", "text", "printed"),
    [
        (["a", "", None, 'q"x', "a,b", "null"], "text[]", '{a,"",NULL,"q\\"x","a,b","null"}'),
        ([1, -2], "smallint[]", "{1,-2}"),
        (183600000000, "interval", "2 days 03:00:00"),
        (0, "interval", "00:00:00"),
        (86400000000, "interval", "1 day"),
        (1.0, "double precision", "1"),
        (Decimal("0.10"), "real", "0.1"),
        (11.6, "numeric(12,2)", "11.60"),
        ({"x": -1.5, "y": 2.0}, "point", "(-1.5,2)"),
        ("KhIF", "bytea", "\\x2a1205"),
        ("2026-03-01T08:00:00.5Z", "timestamp with time zone", "2026-03-01 08:00:00.5+00"),
        (None, "text", None),
    ],
)
def test_mirror_values_print_as_postgres_prints_them(value: Any, text: str, printed: str | None) -> None:
    """The comparison with the recordings' truth rests on this rendering."""
    assert pg_text(value, text) == printed
