"""The fixed workload: orders of the demo shop as its mapping reads them, the same rows on every machine.

Every order has three lines, every fourth a discount, every tenth a refund with a line. Customers, addresses, variants
and products are looked up, as often as in a shop of that size.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeAlias

import orjson

from daemon.mapping.loader import load_mapping
from daemon.mapping.model import Mapping

Row: TypeAlias = dict[str, Any]
Named: TypeAlias = tuple[str, str, Row]
"""(source, key, row)"""

LINES = 3
CUSTOMERS, ADDRESSES, VARIANTS, PRODUCTS = 5000, 9000, 300, 100
EPOCH_MS = 1_772_352_894_000  # when all of this was bought
SOURCE = {  # the fields of the envelope's `source` and their types
    **dict.fromkeys(("version", "connector", "name"), "string"),
    "ts_ms": "int64",
    **dict.fromkeys(("snapshot", "db", "sequence"), "string"),
    **dict.fromkeys(("ts_us", "ts_ns"), "int64"),
    **dict.fromkeys(("schema", "table"), "string"),
    **dict.fromkeys(("txId", "lsn", "xmin"), "int64"),
    "origin": "string",
    "origin_lsn": "int64",
}


def shop_mapping() -> Mapping:
    """The demo shop's mapping, as it is shipped."""
    return load_mapping(Path(str(files("daemon.demo").joinpath("shop/mapping.yaml"))))


def order_key(number: int) -> str:
    """The key of the n-th order."""
    return str(uuid.UUID(int=number))


def order_rows(number: int, *, status: str = "paid") -> Iterator[Named]:
    """The n-th order with all that belongs to it."""
    order = order_key(number)
    yield (
        "orders",
        order,
        {
            "id": order,
            "number": f"D-{number}",
            "status": status,
            "channel": "web",
            "customer_id": str(uuid.UUID(int=number % CUSTOMERS)),
            "guest_email": None,
            "guest_phone": None,
            "shipping_address_id": number % ADDRESSES,
            "currency": "EUR",
            "discount": "0.00",
            "shipping": "4.90",
            "tax": "19.37",
            "total": "126.21",
            "is_renewal": False,
            "ip": "10.0.0.1",
            "details": '{"tags": ["gift"], "note": "please ring the bell"}',
            "placed_at": "2026-03-01T08:14:59.274427Z",
            "paid_at": "2026-03-01T08:15:09.274427Z",
            "shipped_at": None,
            "cancelled_at": None,
            "updated_at": "2026-03-01T08:15:09.274427Z",
        },
    )
    for place in range(LINES):
        line = number * LINES + place
        row = {"id": line, "order_id": order, "position": place, "sku": f"SKU-{line % VARIANTS}", "quantity": 1}
        yield "order_lines", str(line), row | {"unit_price": "33.98", "discount": "0.00"}
    if number % 4 == 0:
        yield "order_discounts", str(number), {"id": number, "order_id": order, "code": "SPRING", "amount": "5.00"}
    if number % 10 == 0:
        refund = {"id": number, "order_id": order, "status": "done", "reason": "damaged", "amount": "33.98"}
        yield "refunds", str(number), refund | {"done_at": "2026-03-02T08:14:59.274427Z"}
        row = {"id": number, "refund_id": number, "order_line_id": number * LINES, "quantity": 1, "amount": "33.98"}
        yield "refund_lines", str(number), row


def shared_rows() -> Iterator[Named]:
    """What orders and lines look up."""
    for number in range(CUSTOMERS):
        key = str(uuid.UUID(int=number))
        person = {"name": f"Ada Example {number}", "phone": f"+49 30 {1_000_000 + number}"}
        yield "customers", key, {"id": key, "email": f"ada.{number}@example.com", "vip": False} | person
    for number in range(ADDRESSES):
        place = {"address1": f"Long Street {number}", "address2": None, "city": "Berlin", "region": "BE"}
        row = {"id": number, "recipient": f"Ada Example {number}", "zip": "10115", "country": "DE"} | place
        yield "addresses", str(number), row
    for number in range(VARIANTS):
        row = {"sku": f"SKU-{number}", "product_id": number % PRODUCTS, "name": f"Size {number % 5}"}
        yield "variants", f"SKU-{number}", row | {"price_usd": "33.98"}
    for number in range(PRODUCTS):
        yield "products", str(number), {"id": number, "title": f"A thing to wear, {number}"}


def envelope(source: str, row: Row, lsn: int, at_ms: int, op: str = "c") -> bytes:
    """A change event as Debezium's PostgreSQL connector writes it, JSON without schemas. Op `r`: read by a snapshot."""
    origin = {
        "version": "3.6.3.Final",
        "connector": "postgresql",
        "name": "oms",
        "ts_ms": at_ms,
        "snapshot": "true" if op == "r" else "false",
        "db": "oms",
        "sequence": f'["{lsn}","{lsn}"]',
        "ts_us": at_ms * 1000,
        "ts_ns": at_ms * 1000000,
        "schema": "public",
        "table": source,
        "txId": lsn // 100,
        "lsn": lsn,
        "xmin": None,
        "origin": None,
        "origin_lsn": None,
    }
    event = {"before": None, "after": row, "source": origin, "transaction": None, "op": op}
    return orjson.dumps(event | {"ts_ms": at_ms, "ts_us": at_ms * 1000, "ts_ns": at_ms * 1000000})


def schemas(source: str, row: Row, key: Sequence[str]) -> tuple[bytes, bytes]:
    """The schemas of a source's keys and of its events, as JsonConverter writes them; all but the key may be null."""
    columns = [_column(name, value, optional=name not in key) for name, value in row.items()]
    identity = [column for column in columns if column["field"] in key]
    block = [{"type": "string", "optional": False, "field": "id"}]
    block += [{"type": "int64", "optional": False, "field": name} for name in ("total_order", "data_collection_order")]
    origin = [{"type": kind, "optional": True, "field": name} for name, kind in SOURCE.items()]
    event = [
        _struct(f"oms.public.{source}.Value", columns, field="before", optional=True),
        _struct(f"oms.public.{source}.Value", columns, field="after", optional=True),
        _struct("io.debezium.connector.postgresql.Source", origin, field="source", version=1),
        _struct("event.block", block, field="transaction", optional=True, version=1),
        {"type": "string", "optional": False, "field": "op"},
        *({"type": "int64", "optional": True, "field": name} for name in ("ts_ms", "ts_us", "ts_ns")),
    ]
    key_schema = _struct(f"oms.public.{source}.Key", identity)
    return orjson.dumps(key_schema), orjson.dumps(_struct(f"oms.public.{source}.Envelope", event, version=2))


def _struct(name: str, fields: list[Row], *, optional: bool = False, **more: Any) -> Row:
    return {"type": "struct", "fields": fields, "optional": optional, "name": name} | more


def _column(name: str, value: Any, *, optional: bool) -> Row:
    kind: Row = {"type": "string", "optional": optional}
    if isinstance(value, bool):
        kind["type"] = "boolean"
    elif isinstance(value, int):
        kind["type"] = "int32" if name in ("position", "quantity") else "int64"
    elif name.endswith("_at"):
        kind |= {"name": "io.debezium.time.ZonedTimestamp", "version": 1}
    elif name in ("id", "order_id", "customer_id"):
        kind |= {"name": "io.debezium.data.Uuid", "version": 1}
    elif name == "details":
        kind |= {"name": "io.debezium.data.Json", "version": 1}
    return kind | {"field": name}
