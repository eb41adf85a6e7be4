"""Orders that could be sent and must not yet: shadow, the backfill's turn, the void guard; over Postgres and HTTP."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Coroutine
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from delivery_rig import Driven, Rig, Shop, mapping_at
from fixtures.postgres import Database
from fixtures.sandbox import RunningSandbox

from daemon.state import steer

pytestmark = pytest.mark.postgres

HELD: dict[str, Any] = {"live_since": None}
"""Of a destination: old orders wait until they are asked for."""

NEW_YEAR = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def rig(
    database: Database,
    connection: psycopg.Connection,
    sandbox: RunningSandbox,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Rig:
    """A shop with an empty API, where deleted orders are zeroed."""
    monkeypatch.setenv("ORDER_SYNC_API_KEY", sandbox.api_key)
    mapping = mapping_at(tmp_path, on_delete="void")
    return Rig(database.settings, Shop(connection), mapping, sandbox.url, sandbox.client_id, sandbox.api_key)


def run(scenario: Coroutine[Any, Any, None]) -> None:
    """Play a scenario to its end."""
    asyncio.run(scenario)


def parked(rig: Rig, hold: str) -> int:
    """How many orders are parked for this reason."""
    statement = "select count(*) from order_sync where parked_revision = revision and hold = %s"
    return int(rig.shop.one(statement, hold))


def pending(rig: Rig) -> int:
    """How many orders are owed and neither parked nor in quarantine."""
    return int(
        rig.shop.one(
            "select count(*) from order_sync where revision > settled_revision"
            " and parked_revision is distinct from revision and quarantine_revision is distinct from revision"
        )
    )


def old_orders(rig: Rig, count: int) -> list[str]:
    """Orders of the backfill, one placed each day of this year; their ids at the API, oldest first. They come mixed."""
    with rig.shop.connection.transaction():
        for number in range(count):
            shuffled = number * 7 % count
            placed = NEW_YEAR + timedelta(days=shuffled)
            rig.shop.order(str(shuffled), mark=False, placed_at=placed.isoformat())
            rig.shop.mark(str(shuffled), lane=1)
    return [f"A-{number}" for number in range(count)]


def arrived(sandbox: RunningSandbox) -> list[str]:
    """The ids of the orders that the API has, in the order of their arrival."""
    return [json.loads(raw)["order_id"] for raw in sandbox.admin.raw_orders()]


def gauge(delivery: Driven, state: str) -> float:
    """Orders in this state, as the metrics tell."""
    return float(delivery.metrics.orders.labels("d", state)._value.get())


def age(delivery: Driven, hold: str) -> float:
    """For how long this hold has held something, as the metrics tell."""
    labels = {"destination": "d", "hold": hold}
    return delivery.metrics.registry.get_sample_value("order_sync_hold_age_seconds", labels) or 0.0


def test_shadow_does_everything_but_send_and_on_sends_it(rig: Rig, sandbox: RunningSandbox) -> None:
    """In shadow good orders are parked with their size, bad ones quarantined, and the API hears nothing at all."""

    async def shadow() -> None:
        async with rig.delivery(destination={"delivery": "shadow"}) as delivery:
            await delivery.loop.run_once()
            for number in range(4):
                rig.shop.order(str(number))
            rig.shop.order("bad", currency="nope")
            rig.shop.order("draft", status="draft")
            await delivery.until(lambda: pending(rig) == 0)
            assert parked(rig, "shadow") == 4
            assert rig.shop.record("bad")["quarantine_reason"] == "invalid"
            assert rig.shop.record("0")["body_bytes"] > 100
            assert rig.shop.record("0")["placed_at"].startswith("2026-03-01T08:00:00")
            assert not rig.shop.record("0")["ever_attempted"]
            rig.shop.order("0", total=11)  # judged anew, and parked again
            await delivery.until(lambda: rig.shop.record("0")["parked_revision"] == 2)
            await delivery.until(lambda: gauge(delivery, "shadow") == 4)
            assert delivery.metrics.delivery_mode.labels("d", "shadow")._value.get() == 1
            assert delivery.metrics.parked_bytes.labels("d", "shadow")._value.get() > 400

    async def on() -> None:
        async with rig.delivery() as delivery:
            await delivery.until(lambda: pending(rig) == 0 and parked(rig, "shadow") == 0)

    run(shadow())
    assert sandbox.admin.stats()["requests"] == 0
    run(on())
    assert set(sandbox.admin.orders()) == {f"A-{number}" for number in range(4)}
    assert sandbox.admin.orders()["A-0"]["purchase_total"] == 11


def test_off_counts_and_does_nothing_else(rig: Rig, sandbox: RunningSandbox) -> None:
    """No lease, no judgement, no request; what is owed and its age are told."""

    async def scenario() -> None:
        async with rig.delivery(destination={"delivery": "off"}) as delivery:
            await delivery.loop.run_once()
            rig.shop.order("1", currency="nope")
            delivery.loop._count_at = 0.0  # at the next turn
            await delivery.until(lambda: gauge(delivery, "owed_live") == 1)
            assert rig.shop.one("select epoch from lease") == 0
            assert rig.shop.record("1")["quarantine_revision"] is None

    run(scenario())
    assert sandbox.admin.stats()["requests"] == 0


def test_old_orders_wait_are_asked_for_and_come_oldest_first(rig: Rig, sandbox: RunningSandbox) -> None:
    """Surveyed first; sent in the order in which they were placed, over a restart in the middle; then the rest."""
    ids = old_orders(rig_registered(rig), 60)
    few: dict[str, Any] = {"destination": HELD, "max_orders_per_request": 5, "requests_in_flight": 1}

    async def survey() -> None:
        async with rig.delivery(**few) as delivery:
            rig.shop.order("live")  # placed before live_since, and not old: it comes through the live lane
            await delivery.until(lambda: parked(rig, "backfill") == 60 and pending(rig) == 0)
            await delivery.until(lambda: gauge(delivery, "backfill") == 60 and age(delivery, "backfill") > 0)
            await delivery.loop.drain()

    async def until_sent(count: int) -> None:
        async with rig.delivery(**few) as delivery:
            await delivery.until(lambda: len(arrived(sandbox)) >= count)

    async def to_the_end() -> None:
        async with rig.delivery(**few) as delivery:
            await delivery.until(lambda: len(arrived(sandbox)) >= 41 and pending(rig) == 0)

    async def rest() -> None:
        async with rig.delivery(**few) as delivery:
            await delivery.until(lambda: parked(rig, "backfill") == 0 and pending(rig) == 0)

    run(survey())
    assert arrived(sandbox) == ["A-live"]
    since, until = NEW_YEAR + timedelta(days=10), NEW_YEAR + timedelta(days=50)
    steer.ask_backfill(rig.postgres, ["d"], since, until, "alice")
    run(until_sent(16))  # and is abandoned there
    left_open = {
        f"A-{key}"
        for key in rig.shop.one(
            "select array_agg(k) from delivery_request, unnest(order_keys) k where settled_at is null"
        )
        or ()
    }
    run(to_the_end())
    came = arrived(sandbox)
    assert set(came) == {"A-live", *ids[10:50]}
    in_order = [one for one in came[1:] if one not in left_open]
    assert in_order == sorted(in_order, key=ids.index)
    assert len(in_order) >= 35
    assert parked(rig, "backfill") == 20
    steer.ask_backfill(rig.postgres, ["d"], None, None, "alice")  # wider: nothing is sent twice
    run(rest())
    assert set(arrived(sandbox)) == {"A-live", *ids}
    assert {len(sandbox.admin.versions(one)) for one in ids if one not in left_open} == {1}


def rig_registered(rig: Rig) -> Rig:
    """The same, its destination registered: it has orders then."""

    async def register() -> None:
        async with rig.delivery(destination={"delivery": "off"}) as delivery:
            await delivery.loop.run_once()

    run(register())
    return rig


def test_live_since_lets_younger_orders_of_the_backfill_flow(rig: Rig, sandbox: RunningSandbox) -> None:
    """What was placed since then needs no asking; an earlier live_since lets go what was parked."""
    old_orders(rig_registered(rig), 30)

    async def since(day: int) -> None:
        at = (NEW_YEAR + timedelta(days=day)).isoformat()
        async with rig.delivery(destination={"live_since": at}) as delivery:
            await delivery.until(lambda: parked(rig, "backfill") == day and pending(rig) == 0)
            await delivery.loop.drain()

    run(since(20))
    assert set(arrived(sandbox)) == {f"A-{number}" for number in range(20, 30)}
    run(since(5))
    assert set(arrived(sandbox)) == {f"A-{number}" for number in range(5, 30)}


def test_stopped_backfill_sends_no_more(rig: Rig, sandbox: RunningSandbox) -> None:
    """What was asked for and is not sent yet is parked again."""
    old_orders(rig_registered(rig), 30)

    async def scenario() -> None:
        async with rig.delivery(destination=HELD, max_orders_per_request=2, requests_in_flight=1) as delivery:
            await delivery.until(lambda: parked(rig, "backfill") == 30)
            steer.ask_backfill(rig.postgres, ["d"], None, None, "alice")
            await delivery.until(lambda: arrived(sandbox))
            steer.stop_backfill(rig.postgres, ["d"], "alice")
            await delivery.until(lambda: pending(rig) == 0)
            assert 0 < len(arrived(sandbox)) < 30
            assert parked(rig, "backfill") == 30 - len(arrived(sandbox))

    run(scenario())


@pytest.mark.timeout(600)  # 10,000 orders, sent one by one through the sandbox's checks
def test_mass_of_deletes_zeroes_no_more_than_the_guard_lets_pass(rig: Rig, sandbox: RunningSandbox) -> None:
    """10,000 orders deleted in one go: 200 are zeroed, the others wait for a person, who lets some go and keeps others.

    A take-over in the middle begins no new count, and whatever else changes flows.
    """
    count = 10_000
    rig_registered(rig)
    many: dict[str, Any] = {"start_grace_secs": 10.0, "request_timeout_secs": 20.0, "lease_secs": 40.0}
    source = "select id from source where name = '{}'"

    def mark(where: str) -> None:
        keys = rig.shop.one(f"select array_agg(key) from source_row where root is not null and key = root and {where}")
        rig.shop.mark(*keys)

    def zeroed() -> int:
        return sum(not document["purchase_total"] for document in sandbox.admin.orders().values())

    with rig.shop.connection.transaction():
        order = "'number', 'A-' || n, 'status', 'paid', 'customer_id', 7, 'currency', 'EUR', 'total', 10,"
        order += " 'placed_at', '2026-03-01T08:00:00Z'"
        line = "'order_id', n::text, 'sku', 'S', 'quantity', 1, 'price', 10"
        for name, key, columns in (("orders", "n::text", order), ("order_lines", "n || '-1'", line)):
            rig.shop.connection.execute(
                'insert into source_row (source, key, root, origin, "offset", columns)'
                f" select ({source.format(name)}), {key}, n::text, 1, 1,"
                f" jsonb_build_object('id', {key}, {columns}) from generate_series(1, {count}) n"
            )
        mark("true")

    async def send_and_delete() -> None:
        async with rig.delivery(**many) as delivery:
            await delivery.until(lambda: pending(rig) == 0, secs=240)
            with rig.shop.connection.transaction():
                rig.shop.connection.execute(
                    f"update source_row set deleted = true where source = ({source.format('orders')})"
                )
                mark("true")
            await delivery.until(lambda: parked(rig, "guarded") > 1000, secs=120)
            await delivery.loop.drain()

    async def go_on() -> None:
        async with rig.delivery(**many) as delivery:
            rig.shop.order("other")
            await delivery.until(lambda: pending(rig) == 0, secs=120)
            await delivery.until(lambda: gauge(delivery, "guarded") == count - 200 and age(delivery, "guarded") > 0)
            assert delivery.metrics.zeroed_orders.labels("d")._value.get() == 200
            await delivery.loop.drain()

    run(send_and_delete())
    run(go_on())
    assert zeroed() == 200
    assert "A-other" in sandbox.admin.orders()
    guarded = rig.shop.connection.execute(
        "select order_key from order_sync where hold = 'guarded' limit 300"
    ).fetchall()
    released = [key for (key,) in guarded]
    assert len(steer.release_guarded(rig.postgres, released, ["d"], "alice")) == 300
    assert len(steer.discard_guarded(rig.postgres, None, ["d"], "alice")) == count - 500
    run(go_to_rest(rig, many))
    assert zeroed() == 500
    held = sandbox.admin.orders()
    assert all(not held[f"A-{key}"]["purchase_total"] for key in released)


async def go_to_rest(rig: Rig, settings: dict[str, Any]) -> None:
    """Until nothing can be sent any more."""
    async with rig.delivery(**settings) as delivery:
        await delivery.until(lambda: pending(rig) == 0, secs=60)
        await delivery.loop.drain()


def test_guarded_order_that_comes_back_is_sent(rig: Rig, sandbox: RunningSandbox) -> None:
    """A guarded order whose rows change is judged anew; so is a discarded one. A lone void flows."""

    async def scenario() -> None:
        async with rig.delivery(max_voids_per_hour=1) as delivery:
            await delivery.loop.run_once()
            for key in ("1", "2", "3"):
                rig.shop.order(key)
            await delivery.until(lambda: pending(rig) == 0)
            rig.shop.order("1", status="cancelled")
            await delivery.until(lambda: pending(rig) == 0)
            for key in ("2", "3"):
                rig.shop.order(key, status="cancelled")
            await delivery.until(lambda: parked(rig, "guarded") == 2)
            rig.shop.order("2", total=7)
            await delivery.until(lambda: pending(rig) == 0)
            steer.discard_guarded(rig.postgres, ["3"], ["d"], "alice")
            rig.shop.order("3", total=8)
            await delivery.until(lambda: pending(rig) == 0)

    run(scenario())
    totals = {key: document["purchase_total"] for key, document in sandbox.admin.orders().items()}
    assert totals == {"A-1": 0, "A-2": 7, "A-3": 8}


def test_pause_and_resume_by_command(rig: Rig, sandbox: RunningSandbox) -> None:
    """A pause has an age; resuming also lifts a halt, without waiting for its next probe."""

    async def scenario() -> None:
        async with rig.delivery(halt_probe_secs=600.0) as delivery:
            await delivery.loop.run_once()
            steer.pause(rig.postgres, ["d"], "alice")
            rig.shop.order("1")
            for _ in range(5):
                await delivery.loop.run_once()
            assert sandbox.admin.stats()["posts"] == 0
            delivery.loop._count_at = 0.0
            await delivery.until(lambda: age(delivery, "paused") > 0)
            sandbox.admin.key(sandbox.api_key, "revoked")
            steer.resume(rig.postgres, ["d"], "alice")
            await delivery.until(lambda: rig.shop.one("select halted_reason from destination"))
            sandbox.admin.key(sandbox.api_key, "good")
            steer.resume(rig.postgres, ["d"], "alice")
            await delivery.until(lambda: pending(rig) == 0)

    run(scenario())
    assert set(sandbox.admin.orders()) == {"A-1"}
