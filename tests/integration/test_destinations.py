"""Two destinations, each with orders of its own by the mapping: two real sandboxes, one state."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

import psycopg
import pytest
from delivery_rig import FAST, Shop, mapping_at
from fixtures.postgres import Database
from fixtures.sandbox import RunningSandbox

from daemon.delivery.loop import DeliveryLoop
from daemon.delivery.orders_api import HttpOrdersApi
from daemon.operate.health import LoopHealth
from daemon.operate.metrics import Metrics
from daemon.sandbox.client import SandboxAdmin
from daemon.sandbox.server import SandboxServer
from daemon.settings import Delivery, Destination, Settings
from daemon.state.database import async_pool
from daemon.state.delivery_store import PostgresDeliveryStore

pytestmark = pytest.mark.postgres

ROUTES = """destinations:
  eu: {when: row.region == 'eu'}
  us: {when: row.region == 'us'}
"""


@dataclass
class World:
    """A shop whose orders go to one of two APIs."""

    shop: Shop
    settings: Settings
    mapping_folder: Path
    eu: SandboxAdmin
    us: SandboxAdmin
    us_server: SandboxServer

    @asynccontextmanager
    async def delivering(self) -> AsyncIterator[Callable[[Callable[[], object]], object]]:
        """Both destinations' loops in this process; what is handed out turns them until a condition holds."""
        mapping = mapping_at(self.mapping_folder, extra=ROUTES)
        metrics = Metrics()
        async with AsyncExitStack() as stack:
            pool = await stack.enter_async_context(async_pool(self.settings.postgres))
            store = PostgresDeliveryStore(pool, self.settings.postgres)
            loops = []
            for name, destination in self.settings.destinations.items():
                api = await stack.enter_async_context(HttpOrdersApi(destination, self.settings.http, 0.5, monotonic))
                loops.append(DeliveryLoop(self.settings, name, mapping, store, api, metrics, LoopHealth(monotonic)))
            never = asyncio.Event()

            async def until(condition: Callable[[], object]) -> None:
                deadline = monotonic() + 15
                while not condition():
                    assert monotonic() < deadline, "it did not come true"
                    worked = [await loop.run_once() for loop in loops]
                    if not any(worked):
                        await loops[0].rest(never)

            try:
                for loop in loops:
                    await loop.run_once()  # registers the destination
                yield until
            finally:
                for loop in loops:
                    loop._posts.cancel()

    def order(self, key: str, region: str, **columns: object) -> None:
        """One order, changed now and marked at both destinations, as ingest marks it."""
        self.shop.order(key, region=region, **columns)

    def settled(self) -> bool:
        """Whether nothing is owed anywhere."""
        return self.shop.owed() == 0

    def hold(self, destination: str, key: str) -> tuple[str, str]:
        """Why an order is not at a destination."""
        row = self.shop.connection.execute(
            "select hold, hold_detail from order_sync o join destination d on d.id = o.destination"
            " where d.name = %s and order_key = %s",
            [destination, key],
        ).fetchone()
        assert row is not None
        return row


@pytest.fixture
def world(
    database: Database,
    connection: psycopg.Connection,
    sandbox: RunningSandbox,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[World]:
    """Two empty APIs."""
    monkeypatch.setenv("ORDER_SYNC_API_KEY", sandbox.api_key)
    with SandboxServer() as server, SandboxAdmin(server.url) as admin:
        settings = Settings(
            mapping=tmp_path / "mapping.yaml",
            postgres=database.settings,
            delivery=Delivery(**FAST),
            destinations={
                name: Destination(base_url=url, client_id=sandbox.client_id)
                for name, url in (("eu", sandbox.url), ("us", server.url))
            },
        )
        shop = Shop(connection, destinations=("eu", "us"))
        yield World(shop, settings, tmp_path, sandbox.admin, admin, server)


def test_orders_go_where_the_mapping_sends_them(world: World) -> None:
    """Each order is at the destination whose condition holds, held at the other with the reason; or it is nowhere."""

    async def scenario() -> None:
        async with world.delivering() as until:
            world.order("1", "eu")
            world.order("2", "us")
            world.order("3", "asia")
            world.order("4", "us", status="draft")
            await until(world.settled)

    asyncio.run(scenario())
    assert set(world.eu.orders()) == {"A-1"}
    assert set(world.us.orders()) == {"A-2"}
    assert world.hold("us", "1") == ("held", "destinations.us.when")
    assert world.hold("eu", "3") == ("held", "destinations.eu.when")
    assert world.hold("us", "4") == ("held", "when"), "the condition of all comes first"


def test_order_that_moves_is_voided_where_it_was(world: World) -> None:
    """An order that is for another destination now is zeroed at the old one and sent to the new one; and back again."""

    async def scenario() -> None:
        async with world.delivering() as until:
            world.order("1", "eu", total=10)
            await until(world.settled)
            world.order("1", "us", total=12)
            await until(world.settled)
            assert world.eu.orders()["A-1"]["purchase_total"] == 0
            assert world.eu.orders()["A-1"]["order_tags"] == ["Cancelled"]
            assert world.us.orders()["A-1"]["purchase_total"] == 12
            world.order("1", "eu", total=13)
            await until(world.settled)

    asyncio.run(scenario())
    assert world.eu.orders()["A-1"]["purchase_total"] == 13
    assert world.eu.orders()["A-1"]["order_tags"] == []
    assert world.us.orders()["A-1"]["purchase_total"] == 0


def test_one_destination_is_down_while_the_other_flows(world: World) -> None:
    """Nothing connects to one host: its orders wait, and the other's arrive as ever."""
    world.us_server.stop()

    async def scenario() -> None:
        async with world.delivering() as until:
            world.order("1", "us")
            await until(lambda: world.shop.one("select max(failures) >= 5 from destination where name = 'us'"))
            for number in range(2, 30):
                world.order(str(number), "eu")
                await until(lambda number=number: f"A-{number}" in world.eu.orders())
            world.us_server.start()
            await until(world.settled)

    asyncio.run(scenario())
    assert len(world.eu.orders()) == 28
    assert set(world.us.orders()) == {"A-1"}


def test_one_destination_is_halted_while_the_other_flows(world: World, sandbox: RunningSandbox) -> None:
    """A refused key halts its own destination alone."""
    world.us.key(sandbox.api_key, "revoked")

    async def scenario() -> None:
        async with world.delivering() as until:
            world.order("1", "us")
            await until(lambda: world.shop.one("select halted_reason from destination where name = 'us'"))
            world.order("2", "eu")
            await until(lambda: set(world.eu.orders()) == {"A-2"})
            assert world.shop.one("select halted_reason from destination where name = 'eu'") is None
            world.us.key(sandbox.api_key, "good")
            await until(world.settled)

    asyncio.run(scenario())
    assert set(world.us.orders()) == {"A-1"}
