"""The recorded corpora of `tests/corpora`: real messages, and what PostgreSQL held after the last of them."""

from __future__ import annotations

import base64
import functools
import json
import lzma
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Context, Decimal
from pathlib import Path
from typing import Any

from daemon.ingest.avro import ConfluentAvro, RegisteredSchema
from daemon.ingest.change import ColumnValue, Message
from daemon.mapping.column_types import check_type
from daemon.mapping.structure import ConnectorModes, Link, Role, Source, Structure

DIRECTORY = Path(__file__).parent / "corpora"
NAMES = (
    "a_json_string",
    "b_schema_precise",
    "c_json_precise",
    "d_unwrap",
    "e_connect_double",
    "f_replica_full",
    "g_message_key",
    "h_tx_heartbeat",
    "i_restart_dups",
    "j_lost_offsets",
    "x_message_key_default_identity",
    "k_key_change_toast",
    "m_mariadb_json",
    "n_mariadb_schema_precise",
    "q_mysql_gtid",
    "u_unwrap_rewrite",
    "u_unwrap_tombstone",
    "u_unwrap_bare",
    "y_avro",
    "z_compacted",
)

_BINLOG = ("io.debezium.connector.mariadb.", "io.debezium.connector.mysql.")


@dataclass(frozen=True)
class Table:
    """A table as PostgreSQL described and printed it at the end. `rows` hold its own text output, None for null."""

    name: str
    pk: tuple[str, ...]
    replica_identity: str
    types: Mapping[str, str]
    defaults: Mapping[str, str | None]
    rows: tuple[Mapping[str, str | None], ...]
    schema: str = "public"
    prefix: str = "oms"

    @property
    def topic(self) -> str:
        """The topic of the table's rows."""
        return f"{self.prefix}.{self.schema}.{self.name}"


@dataclass(frozen=True)
class Corpus:
    """One recording: all messages in file order, the connector's properties, the tables by name.

    `schemas` are the Avro schemas, as JSON texts, by the ids that its messages name; JSON recordings have none.
    `unknown` says what a compacted topic no longer tells: by table and canonical row key, the columns whose placeholder
    has lost its earlier value. `orders` are what a shop's own figures say of each order, numbers as texts.
    """

    name: str
    messages: tuple[Message, ...]
    connector: Mapping[str, str]
    tables: Mapping[str, Table]
    schemas: Mapping[int, str] = field(default_factory=dict)
    unknown: Mapping[str, Mapping[str, frozenset[str]]] = field(default_factory=dict)
    orders: Sequence[Mapping[str, Any]] = ()

    @property
    def has_schemas(self) -> bool:
        """Whether the values carry their schema, or name it."""
        return bool(self.schemas) or self.connector["value.converter.schemas.enable"] == "true"

    @property
    def text(self) -> Callable[[ColumnValue, str], str | None]:
        """The text function of its database: `pg_text` or `my_text`."""
        return my_text if self.connector["connector.class"].startswith(_BINLOG) else pg_text

    def of_tables(self) -> list[Message]:
        """The messages of the tables' own topics."""
        topics = {table.topic for table in self.tables.values()}
        return [message for message in self.messages if message.topic in topics]


@functools.cache
def load(name: str) -> Corpus:
    """Read one corpus by its full name, or by its letter."""
    full = next(known for known in NAMES if name in (known, known[0]))
    return read(DIRECTORY, full)


def read(directory: Path, name: str) -> Corpus:
    """Read one corpus from a directory: its messages, and its truth from a file of its own or from the common one."""
    with lzma.open(directory / f"{name}.jsonl.xz", "rt", encoding="utf-8") as lines:
        messages = tuple(_message(json.loads(line)) for line in lines)
    own = directory / f"{name}.expected.json.xz"
    truth = _json(own) if own.exists() else _json(directory / "expected.json.xz")[name]
    prefix = truth["connector"]["topic.prefix"]
    tables = [_table(title, table, prefix) for title, table in truth["tables"].items()]
    known = directory / f"{name}.schemas.json.xz"
    return Corpus(
        name,
        messages,
        truth["connector"],
        {table.name: table for table in tables},
        schemas={int(identity): text for identity, text in _json(known).items()} if known.exists() else {},
        unknown={
            title.rpartition(".")[2]: {key: frozenset(columns) for key, columns in keys.items()}
            for title, keys in truth.get("unknown", {}).items()
        },
        orders=truth.get("orders", ()),
    )


def ghosts() -> dict[str, set[str]]:
    """The rows of corpus j whose deletes were never sent, by table: canonical row keys."""
    return {table: set(keys) for table, keys in json.loads((DIRECTORY / "j_ghosts.json").read_text()).items()}


def modes_of(corpus: Corpus) -> ConnectorModes:
    """The modes its connector ran with; what is not set has the connector's own default."""
    given = corpus.connector
    binlog = given["connector.class"].startswith(_BINLOG)
    return ConnectorModes(
        decimal_handling_mode=given.get("decimal.handling.mode", "precise"),
        time_precision_mode=given.get("time.precision.mode", "adaptive_time_microseconds" if binlog else "adaptive"),
        # Flattened rows with added fields are known by those.
        unwrapped="transforms.unwrap.type" in given and "transforms.unwrap.add.fields" not in given,
    )


def avro_of(corpus: Corpus) -> ConfluentAvro | None:
    """The reader of its Avro messages; None where it has none."""
    registered = {number: RegisteredSchema("AVRO", text) for number, text in corpus.schemas.items()}
    return ConfluentAvro(registered.get) if registered else None


def structure_for(corpus: Corpus, *, typed: bool | None = None) -> Structure:
    """A structure over all tables: orders with their lines, refunds and refund lines; everything else shared.

    Types are declared for recordings without schemas, or as `typed` says.
    """
    declared = not corpus.has_schemas if typed is None else typed
    sources = {table.name: _source(table, corpus, declared) for table in corpus.tables.values()}
    return Structure(root="orders", sources=sources, version=f"corpus {corpus.name}")


_OWNERS = {
    "order_lines": Link("order_lines.order", "order_lines", "orders", ("order_id",)),
    "refunds": Link("refunds.order", "refunds", "orders", ("order_id",)),
    "refund_lines": Link("refund_lines.refund", "refund_lines", "refunds", ("refund_id",)),
}
_REFS = {
    "orders": (Link("orders.customer", "orders", "customers", ("customer_id",)),),
    "order_lines": (Link("order_lines.product", "order_lines", "products", ("product_id",)),),
}


def _source(table: Table, corpus: Corpus, typed: bool) -> Source:
    owner = _OWNERS.get(table.name)
    return Source(
        name=table.name,
        topic=table.topic,
        role=Role.ROOT if table.name == "orders" else Role.OWNED if owner else Role.SHARED,
        key=table.pk,
        types={name: _declarable(text) for name, text in table.types.items()} if typed else {},
        modes=modes_of(corpus),
        owners=(owner,) if owner else (),
        refs=tuple(link for link in _REFS.get(table.name, ()) if link.target in corpus.tables),
    )


def _declarable(text: str) -> str:
    try:
        check_type(text)
    except ValueError:
        return "text"  # the tables' own enum
    return text


@functools.cache
def _json(path: Path) -> dict[str, Any]:
    with lzma.open(path, "rt", encoding="utf-8") as file:
        content: dict[str, Any] = json.load(file)
    return content


def _message(fields: Sequence[Any]) -> Message:
    topic, partition, offset, timestamp, key, headers, value = fields
    return Message(
        topic,
        partition,
        offset,
        timestamp,
        _bytes(key),
        _bytes(value),
        [(name, _bytes(text)) for name, text in headers],
    )


def _bytes(text: str | Mapping[str, str] | None) -> bytes | None:
    if isinstance(text, Mapping):
        return base64.b64decode(text["base64"])
    return None if text is None else text.encode()


def _table(title: str, table: Mapping[str, Any], prefix: str) -> Table:
    schema, _, name = title.rpartition(".")
    columns = [column for column, *_ in table["columns"]]
    return Table(
        name=name,
        pk=tuple(table["pk"]),
        replica_identity=table["replica_identity"],
        types={column: text for column, text, *_ in table["columns"]},
        defaults={column: default for column, _, _, default in table["columns"]},
        rows=tuple(dict(zip(columns, row, strict=True)) for row in table["rows"]),
        schema=schema,
        prefix=prefix,
    )


def pg_text(value: ColumnValue, pg_type: str) -> str | None:
    """A mirror value in PostgreSQL's own text output for its type (TimeZone UTC), also as read back from jsonb."""
    if value is None:
        return None
    if pg_type.endswith("[]"):
        assert isinstance(value, list)
        return "{" + ",".join(_element(item, pg_type[:-2]) for item in value) + "}"
    base = pg_type.split("(")[0]
    if base == "boolean":
        return "t" if value else "f"
    if base in ("real", "double precision"):
        return _float_text(value)
    if base == "numeric":
        return _numeric_text(value, pg_type)
    if base == "bytea":
        return "\\x" + base64.b64decode(str(value)).hex()
    if base == "interval":
        return _interval_text(value)
    if base == "point":
        assert isinstance(value, dict)
        return f"({_float_text(value['x'])},{_float_text(value['y'])})"
    if base.startswith("time"):
        return str(value).replace("T", " ").replace("Z", "+00")
    return str(value)


def _element(item: ColumnValue, pg_type: str) -> str:
    text = pg_text(item, pg_type)
    if text is None:
        return "NULL"
    if text == "" or text.upper() == "NULL" or set(text) & set('{}",\\ \t\n\r\v\f'):
        return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return text


def _float_text(value: ColumnValue) -> str:
    return str(value) if isinstance(value, str) else repr(float(value)).removesuffix(".0")  # type: ignore[arg-type]


def _numeric_text(value: ColumnValue, pg_type: str) -> str:
    if isinstance(value, str):
        return value
    number = Decimal(repr(value)) if isinstance(value, float) else Decimal(value)  # type: ignore[arg-type]
    if "," in pg_type:
        scale = int(pg_type.partition(",")[2].rstrip(") "))
        number = number.quantize(Decimal(1).scaleb(-scale))
    return format(number, "f")


def _interval_text(value: ColumnValue) -> str:
    micros = int(value)  # type: ignore[arg-type]
    sign = "-" if micros < 0 else ""
    seconds, micros = divmod(abs(micros), 10**6)
    days, seconds = divmod(seconds, 86_400)
    clock = f"{sign}{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"
    fraction = f".{micros:06}".rstrip("0") if micros else ""
    parts = [f"{sign}{days} day{'s' if sign or days != 1 else ''}"] if days else []
    return " ".join(parts + ([clock + fraction] if seconds or micros or not days else []))


def my_text(value: ColumnValue, my_type: str) -> str | None:
    """A mirror value as MySQL and MariaDB print it: times in UTC, bytes in hexadecimal, bits as numbers."""
    if value is None:
        return None
    name, _, rest = my_type.partition("(")
    digits = rest.partition(")")[0]
    if name == "bit":
        return str(int(value)) if isinstance(value, bool) else str(int.from_bytes(_decoded(value), "little"))
    if name in ("binary", "varbinary") or name.endswith("blob"):
        return _decoded(value).hex().upper()
    if isinstance(value, bool):
        return str(int(value))
    if name in ("float", "double"):
        return _my_float_text(value, digits)
    if name == "decimal":
        return _my_fixed(Decimal(str(value)), digits)
    if name in ("time", "datetime", "timestamp"):
        whole, _, fraction = str(value).replace("T", " ").removesuffix("Z").partition(".")
        return f"{whole}.{fraction.ljust(int(digits), '0')}" if digits else whole
    return str(value)


def _decoded(value: ColumnValue) -> bytes:
    return base64.b64decode(str(value))


def _my_fixed(number: Decimal, digits: str) -> str:
    scale = int(digits.partition(",")[2] or 0)
    return format(number.quantize(Decimal(1).scaleb(-scale), context=Context(prec=100)), "f")


def _my_float_text(value: ColumnValue, digits: str) -> str:
    number = Decimal(repr(float(value)))  # type: ignore[arg-type]
    if digits:
        return _my_fixed(number, digits)
    if number and not -15 <= number.adjusted() < 15:  # the server's own bounds for writing all digits out
        mantissa, _, exponent = f"{number.normalize():e}".partition("e")
        return f"{mantissa}e{int(exponent)}"
    return format(number.normalize(), "f")
