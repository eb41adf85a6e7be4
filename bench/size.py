"""How large the state is for each million orders: tables, indexes, what is kept compressed.

Orders of the demo shop's shape with three lines each are folded and delivered by the daemon's own fold, assembly and
delivery statements into a real Postgres, but for Kafka and the API: every request is accepted. Each order is sent when
it is placed and again when it has shipped, `--together` orders to a request. Figures are scaled up from `--orders`.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import time
import uuid
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from decimal import Decimal
from importlib.resources import files
from itertools import chain, islice
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from workload import order_rows

from daemon.delivery.assembly import Assembly
from daemon.delivery.judge import Rules
from daemon.demo.shop import catalogue
from daemon.demo.stack import PostgresServer
from daemon.ingest.change import Change, Kind, Message
from daemon.ingest.fold import Stager
from daemon.mapping.loader import load_mapping
from daemon.mapping.model import Mapping
from daemon.settings import Postgres
from daemon.state.database import async_pool
from daemon.state.delivery_records import Fate, Outgoing, Settled, Settlement
from daemon.state.delivery_store import PostgresDeliveryStore
from daemon.state.ingest_store import Batch, Move, PostgresIngestStore, TopicPartition
from daemon.state.migrate import migrate
from daemon.state.schedule import DebouncePolicy

BATCH = 5000
MONEY = {"discount", "shipping", "tax", "total", "unit_price", "amount", "price_usd"}
RELATIONS = """
select coalesce(parent.relname, c.relname), coalesce(i.relname, ''), sum(pg_relation_size(x.oid)
       + case when i.oid is null then coalesce(pg_total_relation_size(nullif(c.reltoastrelid, 0)), 0) else 0 end)
from pg_class c
join pg_namespace n on n.oid = c.relnamespace and n.nspname = 'order_sync'
left join pg_inherits h on h.inhrelid = c.oid left join pg_class parent on parent.oid = h.inhparent
cross join lateral (select c.oid union all select indexrelid from pg_index where indrelid = c.oid) x (oid)
left join pg_class i on i.oid = x.oid and x.oid <> c.oid
where c.relkind = 'r'
group by 1, 2 having sum(pg_relation_size(x.oid)) > 0 order by 1, 2
"""


def shared(orders: int, lots: random.Random) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """What orders look up: a customer and an address for every other order, the variants, their products."""
    for n in range(max(orders // 2, 1)):
        who, market = catalogue.customer(lots, n), lots.choice(catalogue.MARKETS)
        key, (city, region, code) = str(uuid.UUID(int=n)), lots.choice(market.places)
        stamps = {"created_at": "2026-01-01T08:14:59.274427Z", "updated_at": "2026-01-01T08:14:59.274427Z"}
        person = {"id": key, "email": who.email, "name": who.name, "phone": who.phone, "newsletter": False}
        yield "customers", key, person | stamps
        street = {"recipient": who.name, "address1": f"{n} High Street", "address2": None}
        place = {"city": city, "region": region, "zip": code, "country": market.country}
        yield "addresses", str(n), {"id": n, "customer_id": key, **street, **place, "updated_at": stamps["updated_at"]}
    for n in range(300):
        yield "products", str(n), {"id": n, "title": f"Product number {n}", "attributes": "{}", "updated_at": None}
        yield "variants", f"SKU-{n}", {"sku": f"SKU-{n}", "product_id": n, "name": "blue, L", "price_usd": "33.98"}


def placed(orders: int) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """New orders of customers of their own."""
    for source, key, row in chain.from_iterable(map(order_rows, range(orders))):
        if source == "orders":
            n = int(row["number"].removeprefix("D-"))
            row |= {"customer_id": str(uuid.UUID(int=n // 2)), "shipping_address_id": n // 2}
        yield source, key, row


def shipped(orders: int) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """The same orders, changed."""
    for source, key, row in placed(orders):
        if source == "orders":
            yield (
                source,
                key,
                row | {"status": "shipped", "shipped_at": "2026-03-03T08:14:59.274427Z", "total": "121.21"},
            )


class Fold:
    """Folds rows as ingest does, in order."""

    def __init__(self, postgres: Postgres, mapping: Mapping) -> None:
        self._mapping = mapping
        self._store = PostgresIngestStore(postgres, DebouncePolicy(timedelta(0), timedelta(0)))
        self._store.open(mapping.structure, ["a"])
        self._count = 0

    def all(self, rows: Iterator[tuple[str, str, dict[str, Any]]]) -> None:
        """In batches as from one partition."""
        at = TopicPartition("bench", "one", 0)
        while batch := list(islice(rows, BATCH)):
            [position] = self._store.positions([at]).values()
            changes = [(position.origin, self._change(*row)) for row in batch]
            rounds = Stager(self._mapping.structure).stage(changes, 0)
            self._store.fold(Batch(rounds, [], [Move(position.origin, position.next_offset, self._count)]))

    def close(self) -> None:
        """Give the connection back."""
        self._store.close()

    def _change(self, source: str, key: str, row: dict[str, Any]) -> Change:
        offset, self._count = self._count, self._count + 1
        columns = {name: Decimal(value) if name in MONEY else value for name, value in row.items()}
        lineage = f"postgresql/oms/oms/public/{source}"
        now = int(time.time() * 1000)
        message = Message("bench", 0, offset, now, b"", b"", None)
        return Change(source, key, Kind.UPSERT, "c", columns, (), lineage, (64 * offset,), now, False, message)


async def deliver(postgres: Postgres, mapping: Mapping, together: int) -> tuple[int, int]:
    """Send all that is due to an API that takes everything; (requests, bytes of documents)."""
    requests = size = 0
    async with async_pool(postgres) as pool:
        store = PostgresDeliveryStore(pool, postgres)
        destination = await store.register("a", "http://localhost", "c")
        lease = await store.take_lease(destination, uuid.uuid4(), 3600.0)
        assert lease is not None
        rules = Rules(mapping.void_tag, mapping.on_delete, mapping.on_leave, 1.0, 0.0)
        assembly = Assembly(store, mapping, "a", destination, rules)
        while due := await store.due(destination, 0, together, ()):
            items = (await assembly.gather(due, time.monotonic)).items
            assert len(items) == len(due)
            going = [
                Outgoing(one.key, one.due.revision, one.due.read_at, one.order_id, one.document.body) for one in items
            ]
            request = await store.next_request()
            await store.reserve(lease, request, 0, going, mapping.version)
            ends = tuple(Settled(one.key, Fate.ACCEPTED, one.document.digest) for one in items)
            await store.settle(lease, Settlement(request, "accepted", 200, None, 60.0, ends))
            requests, size = requests + 1, size + sum(len(one.body) for one in going)
        await store.release_lease(lease)
    return requests, size


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--orders", type=int, default=20_000)
    arguments.add_argument("--together", type=int, default=50)
    chosen = arguments.parse_args()
    mapping = load_mapping(Path(str(files("daemon.demo").joinpath("shop/mapping.yaml"))))
    with PostgresServer() as server:
        server.create_database("bench")
        postgres = Postgres(dsn=server.dsn("bench"))
        migrate(postgres)
        with closing(server.connect("bench")) as look:
            look.execute(
                "insert into order_sync.destination (name, base_url, client_id) values ('a', 'http://localhost', 'c')"
            )
            look.execute("insert into order_sync.lease (destination) select id from order_sync.destination")
            requests = size = 0
            with closing(Fold(postgres, mapping)) as fold:
                fold.all(shared(chosen.orders, random.Random(1)))
                for rows in (placed(chosen.orders), shipped(chosen.orders)):
                    fold.all(rows)
                    sent, written = asyncio.run(deliver(postgres, mapping, chosen.together))
                    requests, size = requests + sent, size + written
            look.execute("vacuum analyze")
            found = look.execute(RELATIONS).fetchall()
            rows, documents = look.execute(
                "select (select count(*) from order_sync.source_row),"
                " (select sum(length(last_accepted) + length(last_attempted)) from order_sync.order_sync)"
            ).fetchone() or (0, 0)
    scale = 1_000_000 / chosen.orders
    table = Table("table", "index", "GB", title="of each million orders")
    for name, index, count in found:
        if float(count) * scale > 5e6:
            table.add_row(name, index, f"{float(count) * scale / 1e9:.2f}")
    table.add_row("all", "", f"{sum(float(count) for _, _, count in found) * scale / 1e9:.2f}")
    console = Console()
    console.print(table)
    console.print(
        f"{chosen.orders} orders, {rows / chosen.orders:.1f} rows and {requests / chosen.orders:.3f} requests each; "
        f"a document has {size / chosen.orders / 2:.0f} bytes, the two kept ones {float(documents) / chosen.orders:.0f}"
    )


if __name__ == "__main__":
    main()
