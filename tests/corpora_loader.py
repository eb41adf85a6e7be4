"""The recorded corpora of `tests/corpora`: real messages, and what PostgreSQL held after the last of them."""

from __future__ import annotations

import base64
import functools
import json
import lzma
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

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
)


@dataclass(frozen=True)
class Table:
    """A table as PostgreSQL described and printed it at the end. `rows` hold its own text output, None for null."""

    name: str
    pk: tuple[str, ...]
    replica_identity: str
    types: Mapping[str, str]
    defaults: Mapping[str, str | None]
    rows: tuple[Mapping[str, str | None], ...]

    @property
    def topic(self) -> str:
        """The topic of the table's rows."""
        return f"oms.public.{self.name}"


@dataclass(frozen=True)
class Corpus:
    """One recording: all messages in file order, the connector's properties, the tables by name."""

    name: str
    messages: tuple[Message, ...]
    connector: Mapping[str, str]
    tables: Mapping[str, Table]

    @property
    def has_schemas(self) -> bool:
        """Whether the values carry their schema."""
        return self.connector["value.converter.schemas.enable"] == "true"

    def of_tables(self) -> list[Message]:
        """The messages of the tables' own topics."""
        topics = {table.topic for table in self.tables.values()}
        return [message for message in self.messages if message.topic in topics]


@functools.cache
def load(name: str) -> Corpus:
    """Read one corpus by its full name, or by its letter."""
    full = next(known for known in NAMES if name in (known, known[0]))
    with lzma.open(DIRECTORY / f"{full}.jsonl.xz", "rt", encoding="utf-8") as lines:
        messages = tuple(_message(json.loads(line)) for line in lines)
    truth = _truth()[full]
    tables = {name.removeprefix("public."): _table(name, table) for name, table in truth["tables"].items()}
    return Corpus(full, messages, truth["connector"], tables)


def ghosts() -> dict[str, set[str]]:
    """The rows of corpus j whose deletes were never sent, by table: canonical row keys."""
    return {table: set(keys) for table, keys in json.loads((DIRECTORY / "j_ghosts.json").read_text()).items()}


def modes_of(corpus: Corpus) -> ConnectorModes:
    """The modes its connector ran with."""
    return ConnectorModes(
        decimal_handling_mode=corpus.connector.get("decimal.handling.mode", "precise"),
        time_precision_mode=corpus.connector.get("time.precision.mode", "adaptive"),
    )


def structure_for(corpus: Corpus, *, typed: bool | None = None) -> Structure:
    """A structure over all tables: orders with their lines, refunds and refund lines; everything else shared.

    Types are declared for recordings without schemas, or as `typed` says.
    """
    declared = not corpus.has_schemas if typed is None else typed
    sources = {table.name: _source(table, modes_of(corpus), declared) for table in corpus.tables.values()}
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


def _source(table: Table, modes: ConnectorModes, typed: bool) -> Source:
    owner = _OWNERS.get(table.name)
    return Source(
        name=table.name,
        topic=table.topic,
        role=Role.ROOT if table.name == "orders" else Role.OWNED if owner else Role.SHARED,
        key=table.pk,
        types={name: _declarable(text) for name, text in table.types.items()} if typed else {},
        modes=modes,
        owner=owner,
        refs=_REFS.get(table.name, ()),
    )


def _declarable(text: str) -> str:
    try:
        check_type(text)
    except ValueError:
        return "text"  # the tables' own enum
    return text


@functools.cache
def _truth() -> dict[str, Any]:
    with lzma.open(DIRECTORY / "expected.json.xz", "rt", encoding="utf-8") as file:
        truth: dict[str, Any] = json.load(file)
    return truth


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


def _bytes(text: str | None) -> bytes | None:
    return None if text is None else text.encode()


def _table(name: str, table: Mapping[str, Any]) -> Table:
    columns = [column for column, *_ in table["columns"]]
    return Table(
        name=name.removeprefix("public."),
        pk=tuple(table["pk"]),
        replica_identity=table["replica_identity"],
        types={column: text for column, text, *_ in table["columns"]},
        defaults={column: default for column, _, _, default in table["columns"]},
        rows=tuple(dict(zip(columns, row, strict=True)) for row in table["rows"]),
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
    if base.startswith("timestamp"):
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
    seconds, micros = divmod(int(value), 10**6)  # type: ignore[arg-type]
    days, seconds = divmod(seconds, 86_400)
    clock = f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"
    fraction = f".{micros:06}".rstrip("0") if micros else ""
    parts = [f"{days} day{'s' if days != 1 else ''}"] if days else []
    return " ".join(parts + ([clock + fraction] if seconds or micros or not days else []))
