"""The delivery store in memory keeps the contract."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from delivery_store_suite import URL, DeliveryStoreSuite, Play, Scenario, World

from daemon.mapping.rows import StoredRow
from daemon.state.delivery_records import Drift, Placed
from daemon.state.memory_delivery import MemoryDeliveryStore


class MemoryWorld(World):
    def __init__(self) -> None:
        self.store: MemoryDeliveryStore = MemoryDeliveryStore(time.time)

    def touch(self, key: str, *, lane: int = 0, due_in: float = -1.0) -> None:
        self.store.touch(self.destination, key, lane=lane, due_in=due_in)

    def put_row(self, row: StoredRow) -> None:
        self.store.put_row(row)

    def pause(self) -> None:
        self.store.pause(self.destination, paused=True)

    def resume(self) -> None:
        self.store.pause(self.destination, paused=False)

    def ask(self, placed: Placed | None) -> None:
        self.store.ask(self.destination, placed)

    def decide_guarded(self, *keys: str, release: bool) -> None:
        decide = self.store.release_guarded if release else self.store.discard_guarded
        decide(self.destination, keys)

    def erase(self, *keys: str, body: bytes, clear: str) -> None:
        self.store.erase(self.destination, keys, lambda _: body, clear.split())

    def gate(self, *, closed: bool) -> None:
        self.store.gate_closed = closed

    def begin_era(self) -> None:
        self.store.begin_era("a test")

    def note_targets(self) -> None:
        self.store.replay()

    def end_replay(self) -> None:
        self.store.end_replay()

    def forget_renewals(self) -> None:
        self.store.destination(self.destination).renewals = 0

    def put_in_force(self, version: str) -> None:
        self.store.mapping_in_force = version

    def reconcile(self, missing: int, extra: int, different: int) -> None:
        counts = {"missing": missing, "extra": extra, "different": different}
        self.store.reconciled[self.destination] = Drift(counts, time.time())

    def look(self, key: str) -> dict[str, Any]:
        order = self.store.destination(self.destination).orders[key]
        return {
            "revision": order.revision,
            "settled_revision": order.settled_revision,
            "request_id": order.request,
            "digest": order.digest,
            "ever_attempted": order.ever_attempted,
            "first_change": order.first_change is not None,
            "held": order.not_before > time.time(),
            "hold": order.hold and order.hold.value,
            "parked_revision": order.parked_revision,
            "placed_at": order.placed_at,
            "body_bytes": order.body_bytes,
            "zeroed": order.zeroed,
            "quarantine_revision": order.quarantine_revision,
            "attempts": order.attempts,
            "send_alone": order.send_alone,
            "voided": order.voided,
            "vendor_order_id": order.vendor_order_id,
        }


class TestMemoryDeliveryStore(DeliveryStoreSuite):
    @pytest.fixture
    def play(self) -> Play:
        def run(scenario: Scenario) -> None:
            async def whole() -> None:
                world = MemoryWorld()
                world.destination = await world.store.register("d", URL, "c")
                await scenario(world)

            asyncio.run(whole())

        return run
