"""The demo's mapping and the demo's SQL truth are two ways to the same documents; neither knows the other."""

from __future__ import annotations

import json
from collections import defaultdict
from contextlib import closing
from datetime import UTC, datetime
from decimal import Decimal
from ipaddress import IPv4Address
from typing import Any
from uuid import UUID

import psycopg
import pytest
from fixtures.postgres import Database

from daemon.demo.compare import Expectation, differences, expected_orders, kinds
from daemon.demo.daemon_process import MAPPING
from daemon.demo.shop.shop import Shop
from daemon.document.assemble import Assembler
from daemon.document.outcome import Ineligible, Ready, Voided
from daemon.mapping.keys import row_key
from daemon.mapping.loader import load_mapping
from daemon.mapping.rows import StoredRow, Wanted

ACTIONS = 1200
KINDS = {
    "partial refund",
    "shipping-only refund",
    "order-level refund",
    "cancelled before sending",
    "cancelled after sending",
    "deleted before sending",
    "guest",
    "second currency",
    "edited line",
}


def _stored(value: object) -> object:
    """A column as the mirror keeps it."""
    match value:
        case UUID() | IPv4Address():
            return str(value)
        case datetime():
            return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
        case dict():
            return json.dumps(value)
        case _:
            return value


def _rows(connection: psycopg.Connection, tables: list[str]) -> dict[str, dict[str, dict[str, Any]]]:
    """Every row of the tables: table, key, columns."""
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for table in tables:
        cursor = connection.execute(f"select * from {table}")
        names = [column.name for column in cursor.description or ()]
        rows = [dict(zip(names, map(_stored, row), strict=True)) for row in cursor]
        key = "sku" if table == "variants" else "id"
        found[table] = {row_key([row[key]]): row for row in rows}
    return found


@pytest.mark.postgres
def test_mapping_and_truth_agree_on_every_order(empty_database: Database) -> None:
    """After a day's trade the engine's document of each order equals the one that SQL makes of the OMS."""
    mapping = load_mapping(MAPPING)
    assembler = Assembler(mapping)
    with closing(empty_database.connect()) as connection:
        shop = Shop(connection, settle_secs=0)
        shop.open(orders=40)
        for _ in range(ACTIONS):
            shop.act()
        tables = _rows(connection, list(mapping.sources))
        expected = expected_orders(connection)
        shared = {
            Wanted(name, key): StoredRow(name, key, None, columns)
            for name in ("customers", "addresses", "variants", "products")
            for key, columns in tables[name].items()
        }
        owned: defaultdict[str, list[StoredRow]] = defaultdict(list)
        for name in ("orders", "order_lines", "order_discounts", "refunds", "refund_lines"):
            for key, columns in tables[name].items():
                refund = tables["refunds"][str(columns["refund_id"])] if name == "refund_lines" else columns
                root = key if name == "orders" else refund["order_id"]
                owned[root].append(StoredRow(name, key, root, columns))
        documents: dict[str, dict[str, Any]] = {}
        outcomes: defaultdict[type, set[str]] = defaultdict(set)
        for root, rows in owned.items():
            complete = assembler.complete(rows, lambda wanted: [shared[name] for name in wanted if name in shared])
            outcome = assembler.assemble(root, complete)
            number = tables["orders"][root]["number"]
            outcomes[type(outcome)].add(number)
            if isinstance(outcome, Ready):
                documents[number] = json.loads(outcome.document.body, parse_float=Decimal)
        found = differences(
            [one for one in expected if one.expectation is not Expectation.VOID],
            documents,
            before_void=lambda _: (),
            void_tag=mapping.void_tag,
        )
        assert [str(one) for one in found] == []
        assert outcomes.keys() <= {Ready, Voided, Ineligible}
        voids = {one.order_id for one in expected if one.expectation is Expectation.VOID}
        assert outcomes[Voided] <= voids
        by_kind = kinds(connection, outcomes[Voided])
        assert {kind: by_kind.get(kind, 0) for kind in KINDS if by_kind.get(kind, 0) < 10} == {}
