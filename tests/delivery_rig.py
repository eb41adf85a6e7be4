"""For tests of delivery: a tiny mapping, a shop that writes rows and marks as ingest does, and loops to drive."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any

import psycopg
from prometheus_client import Counter

from daemon.delivery.loop import DeliveryLoop
from daemon.delivery.orders_api import HttpOrdersApi
from daemon.mapping.loader import load_mapping
from daemon.mapping.model import Mapping
from daemon.operate.health import LoopHealth
from daemon.operate.metrics import Metrics
from daemon.settings import Delivery, Destination, Postgres, Settings
from daemon.state.database import async_pool
from daemon.state.delivery_store import PostgresDeliveryStore

MAPPING = """
version: 1
root: orders
when: row.status != 'draft'
void: row.status == 'cancelled'
void_tag: Cancelled
on_delete: {on_delete}
on_leave: void
sources:
  orders:
    topic: shop.orders
    key: [id]
    one:
      customer: {{source: customers, match: {{id: customer_id}}}}
    many:
      lines: {{source: order_lines, match: {{order_id: id}}, sort: id}}
  order_lines:
    topic: shop.order_lines
    key: [id]
  customers:
    topic: shop.customers
    key: [id]
document:
  order_id: row.number
  customer_id: "words('c', text(row.customer.id))"
  customer_name: row.customer.name
  time_of_purchase: iso(row.placed_at)
  currency: row.currency
  purchase_total: row.total
  tax: "0"
  shipping_cost: "0"
  products:
    for: {{l: row.lines}}
    item: {{id: l.sku, name: l.sku, quantity: l.quantity, price: l.price}}
"""

FAST: dict[str, Any] = {
    "start_grace_secs": 0.3,
    "request_timeout_secs": 0.8,
    "vendor_settle_secs": 0.2,
    "connect_timeout_secs": 0.5,
    "lease_secs": 1.6,
    "lease_renew_secs": 0.3,
    "resend_gap_secs": 0.0,
    "poll_interval_ms": 20,
    "backoff_initial_secs": 0.05,
    "backoff_max_secs": 0.2,
    "halt_probe_secs": 0.1,
    "waiting_recheck_secs": 0.1,
    "waiting_max_secs": 60.0,
    "budget_window_secs": 2.0,
}
"""Everything that waits, scaled to about a second."""


EVERYTHING = {"live_since": "1970-01-01"}
"""Of a destination: no order needs to be asked for."""


def mapping_at(directory: Path, on_delete: str = "keep", extra: str = "") -> Mapping:
    """The tiny mapping, loaded from a file of its own."""
    path = directory / "mapping.yaml"
    path.write_text(MAPPING.format(on_delete=on_delete) + extra, encoding="utf-8")
    return load_mapping(path)


class Shop:
    """Plays the OMS and ingest: rows into the mirror, marks into the orders' records."""

    def __init__(
        self, connection: psycopg.Connection, *, destinations: tuple[str, ...] = ("d",), schema: str = "order_sync"
    ) -> None:
        self.connection = connection
        connection.execute(f"set search_path to {schema}")
        for source in ("orders", "order_lines", "customers"):
            connection.execute("insert into source (name) values (%s) on conflict do nothing", [source])
        self.destinations = list(destinations)
        self.row("customers", "7", None, {"id": 7, "name": "Ada"})

    def row(self, source: str, key: str, root: str | None, columns: dict[str, Any], *, deleted: bool = False) -> None:
        """One row of the mirror, as it is now."""
        self.connection.execute(
            'insert into source_row (source, key, root, columns, deleted, origin, "offset")'
            " select id, %s, %s, %s::jsonb, %s, 1, 1 from source where name = %s"
            " on conflict (source, key) do update set columns = excluded.columns, deleted = excluded.deleted",
            [key, root, json.dumps(columns), deleted, source],
        )

    def order(self, key: str, *, mark: bool = True, deleted: bool = False, lines: bool = True, **columns: Any) -> None:
        """An order with one line, changed now and due at once."""
        values = {
            "id": key,
            "number": f"A-{key}",
            "status": "paid",
            "customer_id": 7,
            "placed_at": "2026-03-01T08:00:00Z",
            "currency": "EUR",
            "total": 10,
            **columns,
        }
        with self.connection.transaction():
            self.row("orders", key, key, values, deleted=deleted)
            if lines:
                line = {"id": f"{key}-1", "order_id": key, "sku": "S", "quantity": 1, "price": values["total"]}
                self.row("order_lines", f"{key}-1", key, line)
            if mark:
                self.mark(key)

    def mark(self, *keys: str, lane: int = 0) -> None:
        """The orders were touched: owed, and due at once."""
        self.connection.execute(
            "insert into order_sync as o"
            " (destination, order_key, lane, first_change, last_change, first_commit, due_at)"
            " select d.id, k, %s, now(), now(), now(), now() from destination d, unnest(%s::text[]) k"
            " where d.name = any(%s)"
            " on conflict (destination, order_key) do update set revision = o.revision + 1, lane ="
            " case when o.revision > o.settled_revision then least(o.lane, excluded.lane) else excluded.lane end,"
            " first_change = coalesce(o.first_change, now()), first_commit = coalesce(o.first_commit, now()),"
            " last_change = now(), due_at = now()",
            [lane, list(keys), self.destinations],
        )

    def record(self, key: str) -> dict[str, Any]:
        """The order's record."""
        found: dict[str, Any] = self.one("select to_jsonb(o) from order_sync o where order_key = %s", key)
        return found

    def one(self, query: str, *parameters: Any) -> Any:
        """The first column of the first row."""
        row = self.connection.execute(query, parameters).fetchone()
        return row and row[0]

    def owed(self) -> int:
        """Orders that are owed and not in quarantine."""
        return int(
            self.one(
                "select count(*) from order_sync where revision > settled_revision"
                " and quarantine_revision is distinct from revision"
            )
        )


@dataclass
class Driven:
    """One process's delivery, driven turn by turn."""

    loop: DeliveryLoop
    metrics: Metrics

    async def until(self, condition: Callable[[], object], what: str = "the condition", secs: float = 15.0) -> None:
        """Turn the loop until the condition holds; fails the test at the deadline."""
        deadline = monotonic() + secs
        never = asyncio.Event()
        while not condition():
            assert monotonic() < deadline, f"{what} did not come true within {secs:g} s"
            if not await self.loop.run_once():
                await self.loop.rest(never)

    def count(self, counter: Counter, *labels: str) -> float:
        """A counter's present value for this destination."""
        return float(counter.labels("d", *labels)._value.get())


@dataclass
class Rig:
    """A database, a shop, and where the API is."""

    postgres: Postgres
    shop: Shop
    mapping: Mapping
    url: str
    client_id: str
    api_key: str

    def settings(self, destination: dict[str, Any] | None = None, **changes: Any) -> Settings:
        """The scaled-down settings with changes."""
        return Settings(
            mapping=Path(self.mapping.path),
            postgres=self.postgres,
            delivery=Delivery(**(FAST | changes)),
            destinations={
                "d": Destination(
                    **{"base_url": self.url, "client_id": self.client_id, **EVERYTHING, **(destination or {})}
                )
            },
        )

    @asynccontextmanager
    async def delivery(
        self, *, mapping: Mapping | None = None, destination: dict[str, Any] | None = None, **changes: Any
    ) -> AsyncIterator[Driven]:
        """One process's delivery. Leaving the block abandons it: nothing is drained, settled or returned."""
        settings = self.settings(destination, **changes)
        metrics = Metrics()
        async with (
            async_pool(settings.postgres) as pool,
            HttpOrdersApi(settings.destinations["d"], settings.http, 0.5, monotonic) as api,
        ):
            store = PostgresDeliveryStore(pool, settings.postgres)
            loop = DeliveryLoop(settings, "d", mapping or self.mapping, store, api, metrics, LoopHealth(monotonic))
            try:
                yield Driven(loop, metrics)
            finally:
                loop._posts.cancel()
