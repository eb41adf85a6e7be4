"""Delivery from the order's record to the API's copy, on a real Postgres and a sandbox over HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Coroutine
from pathlib import Path
from typing import Any

import pytest
from delivery_rig import Driven, Rig, mapping_at
from fixtures.sandbox import RunningSandbox

from daemon.delivery.assembly import Assembly
from daemon.delivery.judge import Rules
from daemon.errors import DestinationError
from daemon.mapping.rows import StoredRow
from daemon.state.database import async_pool
from daemon.state.delivery_store import PostgresDeliveryStore

pytestmark = pytest.mark.postgres


def run(scenario: Coroutine[Any, Any, None]) -> None:
    """Play a scenario to its end."""
    asyncio.run(scenario)


async def settle_all(rig: Rig, delivery: Driven) -> None:
    """Until nothing is owed."""
    await delivery.until(lambda: rig.shop.owed() == 0, "settling everything")


def total(sandbox: RunningSandbox, order_id: str) -> Any:
    """What the API holds as the order's total."""
    return sandbox.admin.orders()[order_id]["purchase_total"]


def test_due_orders_arrive_and_are_settled(rig: Rig, sandbox: RunningSandbox) -> None:
    """Orders that are due are at the API afterwards, in one request, and nothing is owed."""

    async def scenario() -> None:
        async with rig.delivery() as delivery:
            await delivery.loop.run_once()
            with rig.shop.connection.transaction():
                for number in range(5):
                    rig.shop.order(str(number))
            await settle_all(rig, delivery)
            assert delivery.count(delivery.metrics.accepted_orders_total) == 5

    run(scenario())
    assert set(sandbox.admin.orders()) == {f"A-{number}" for number in range(5)}
    assert sandbox.admin.stats()["posts"] == 1
    assert sandbox.admin.orders()["A-0"]["customer_name"] == "Ada"


class SlowStore(PostgresDeliveryStore):
    """Reading rows takes ten seconds, by the clock that it holds."""

    now = 0.0

    async def rows_of(self, roots: Collection[str]) -> dict[str, list[StoredRow]]:
        self.now += 10
        return await super().rows_of(roots)


def test_what_took_long_to_gather_is_fresh_once_it_is_there(rig: Rig) -> None:
    """Else a machine too slow to assemble a fetch in `STALE_SECS` would assemble it again for ever and send nothing."""

    async def scenario() -> None:
        async with async_pool(rig.postgres) as pool:
            store = SlowStore(pool, rig.postgres)
            destination = await store.register("d", rig.url, rig.client_id)
            rig.shop.order("1")
            due = await store.due(destination, 0, 10, ())
            assembly = Assembly(store, rig.mapping, "d", destination, Rules("Cancelled", "keep", "keep", 60.0, 0.0))
            gathered = await assembly.gather(due, lambda: store.now)
            assert [item.at for item in gathered.items] == [10.0]

    run(scenario())


def test_unchanged_order_costs_no_request(rig: Rig, sandbox: RunningSandbox) -> None:
    """An order whose rows changed but whose document did not is settled without a request."""

    async def scenario() -> None:
        async with rig.delivery() as delivery:
            await delivery.loop.run_once()
            rig.shop.order("1")
            await settle_all(rig, delivery)
            rig.shop.order("1", internal_note="not in the document")
            await settle_all(rig, delivery)
            assert delivery.count(delivery.metrics.unchanged_orders_total) == 1

    run(scenario())
    assert len(sandbox.admin.versions("A-1")) == 1


def test_named_order_is_quarantined_and_the_others_are_sent_on(rig: Rig, sandbox: RunningSandbox) -> None:
    """A 400 that names an order costs that order alone; nothing of the rest is left behind."""
    sandbox.admin.options(unique_product_ids=True)

    async def scenario() -> None:
        async with rig.delivery() as delivery:
            await delivery.loop.run_once()
            refuse(sandbox, "A-3", named=True)
            with rig.shop.connection.transaction():
                for number in range(6):
                    rig.shop.order(str(number))
            await settle_all(rig, delivery)

    run(scenario())
    assert set(sandbox.admin.orders()) == {"A-0", "A-1", "A-2", "A-4", "A-5"}
    record = rig.shop.record("3")
    assert record["quarantine_revision"] == record["revision"] == 1
    assert record["quarantine_reason"] == "rejected"
    assert record["attempts"] == 1
    assert sandbox.admin.stats()["posts"] == 2


def refuse(sandbox: RunningSandbox, order_id: str, *, named: bool) -> None:
    """The API refuses this order, and every batch it is in."""
    said = f'[{{"order_id": "{order_id}", "message": "bad", "json_path": "$[0].tax"}}]' if named else ""
    sandbox.admin.fault("status", status=400, body=said, order_id=order_id, count=None)


def test_unnamed_refusal_is_bisected_down_to_the_bad_orders(rig: Rig, sandbox: RunningSandbox) -> None:
    """A 400 that names nobody is narrowed down: the bad orders end in quarantine, all others at the API."""

    async def scenario() -> None:
        async with rig.delivery() as delivery:
            await delivery.loop.run_once()
            for bad in ("A-05", "A-17"):
                refuse(sandbox, bad, named=False)
            with rig.shop.connection.transaction():
                for number in range(32):
                    rig.shop.order(f"{number:02}")
            await settle_all(rig, delivery)

    run(scenario())
    assert set(sandbox.admin.orders()) == {f"A-{number:02}" for number in range(32)} - {"A-05", "A-17"}
    assert rig.shop.record("05")["quarantine_revision"] == 1
    assert rig.shop.record("17")["quarantine_revision"] == 1
    assert sandbox.admin.stats()["posts"] <= 21


def test_mass_refusal_halts_and_quarantines_nobody(rig: Rig, sandbox: RunningSandbox) -> None:
    """When every order of a bisection is refused, the fault is ours: halted, and no order pays for it."""
    sandbox.admin.fault("status", status=400, body="", count=None)

    async def scenario() -> None:
        async with rig.delivery(quarantine_budget_orders=4, halt_probe_secs=0.2) as delivery:
            await delivery.loop.run_once()
            with rig.shop.connection.transaction():
                for number in range(20):
                    rig.shop.order(str(number))
            await delivery.until(lambda: rig.shop.one("select halted_reason from destination"))
            assert rig.shop.one("select count(*) from order_sync where quarantine_revision is not null") == 0
            sandbox.admin.clear_faults()
            await settle_all(rig, delivery)
            assert rig.shop.one("select halted_reason from destination") is None

    run(scenario())
    assert len(sandbox.admin.orders()) == 20


def test_refused_key_halts_until_it_is_good_again(rig: Rig, sandbox: RunningSandbox) -> None:
    """A 401 stops the destination, costs no order an attempt, and ends when the key is let in again."""
    sandbox.admin.key(sandbox.api_key, "revoked")

    async def scenario() -> None:
        async with rig.delivery() as delivery:
            await delivery.loop.run_once()
            rig.shop.order("1")
            await delivery.until(lambda: rig.shop.one("select halted_reason from destination"))
            record = rig.shop.record("1")
            assert record["quarantine_revision"] is None
            assert record["attempts"] == 0
            assert not record["ever_attempted"]
            assert delivery.metrics.destination_halted.labels("d")._value.get() == 1
        async with rig.delivery() as delivery:
            await delivery.until(lambda: delivery.metrics.leader.labels("d")._value.get())
            assert delivery.metrics.destination_halted.labels("d")._value.get() == 1  # the next leader tells it too
            sandbox.admin.key(sandbox.api_key, "good")
            await settle_all(rig, delivery)
            await delivery.until(lambda: rig.shop.one("select halted_reason from destination") is None)

    run(scenario())
    assert set(sandbox.admin.orders()) == {"A-1"}


def test_new_key_is_tried_at_once(rig: Rig, sandbox: RunningSandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """A halted destination whose API key was replaced does not wait for its next probe."""
    sandbox.admin.key(sandbox.api_key, "revoked")
    sandbox.admin.key("second", "good", client_id=sandbox.client_id)

    async def scenario() -> None:
        async with rig.delivery(halt_probe_secs=600.0) as delivery:
            await delivery.loop.run_once()
            rig.shop.order("1")
            await delivery.until(lambda: rig.shop.one("select halted_reason from destination"))
            monkeypatch.setenv("ORDER_SYNC_API_KEY", "second")
            await settle_all(rig, delivery)

    run(scenario())
    assert set(sandbox.admin.orders()) == {"A-1"}


def test_rate_limit_is_waited_out_without_an_attempt(rig: Rig, sandbox: RunningSandbox) -> None:
    """A 429 holds everything for as long as it asks, counts no attempt, and is remembered in the state."""
    body = '{"error":"rate_limit_error","retry_after_seconds":1}'
    sandbox.admin.fault("status", status=429, body=body, headers={"Retry-After": "1"})

    async def scenario() -> None:
        async with rig.delivery() as delivery:
            await delivery.loop.run_once()
            rig.shop.order("1")
            await delivery.until(lambda: rig.shop.one("select send_not_before > now() from destination"))
            await settle_all(rig, delivery)

    run(scenario())
    first, second = (entry for entry in sandbox.admin.requests() if entry["method"] == "POST")
    assert second["at"] - first["at"] >= 1.0
    assert rig.shop.record("1")["attempts"] == 0


def test_lost_answer_is_followed_by_a_newer_document(rig: Rig, sandbox: RunningSandbox) -> None:
    """An applied but unanswered request holds its order for the fence; then what is current is sent."""
    sandbox.admin.fault("drop_after")

    async def scenario() -> None:
        async with rig.delivery() as delivery:
            await delivery.loop.run_once()
            rig.shop.order("1", total=10)
            await delivery.until(lambda: rig.shop.one("select 1 from delivery_request where outcome = 'unknown'"))
            assert rig.shop.record("1")["digest"] is None
            rig.shop.order("1", total=11)
            rig.shop.order("1", total=10)  # back to what was sent without an answer: it must go out all the same
            await settle_all(rig, delivery)

    run(scenario())
    first, second = (entry for entry in sandbox.admin.requests() if entry["method"] == "POST")
    assert second["at"] - first["ended_at"] >= 1.3
    assert len(sandbox.admin.versions("A-1")) == 2


def test_stale_document_of_a_dead_leader_does_not_stand(rig: Rig, sandbox: RunningSandbox) -> None:
    """A leader that dies with a POST in flight is replaced; what it sent late is overwritten by what is current."""
    sandbox.admin.fault("apply_late", seconds=0.15)  # within vendor_settle

    async def scenario() -> None:
        async with rig.delivery() as first:
            await first.loop.run_once()
            rig.shop.order("1", total=10)
            await first.until(lambda: sandbox.admin.stats()["posts"] == 1, "the first POST")
        rig.shop.order("1", total=99)
        async with rig.delivery() as second:
            await second.until(lambda: rig.shop.owed() == 0, "the second leader")

    run(scenario())
    sandbox.admin.wait("late_applied", 1)
    assert total(sandbox, "A-1") == 99
    assert rig.shop.one("select max(epoch) from delivery_request") == 2
    assert sandbox.admin.stats()["shared_in_flight"] == 0
    at = [entry["at"] for entry in sandbox.admin.requests() if entry["method"] == "POST"]
    assert at[1] - at[0] >= 2.4  # what was left of the lease, and one fence from the take-over


def test_change_in_flight_stays_due(rig: Rig, sandbox: RunningSandbox) -> None:
    """A change that comes while its order is in flight is sent next; the answer settles only what was sent."""
    sandbox.admin.fault("delay")

    async def scenario() -> None:
        async with rig.delivery() as delivery:
            await delivery.loop.run_once()
            rig.shop.order("1", total=10)
            await delivery.until(lambda: sandbox.admin.stats()["held"] == 1)
            rig.shop.order("1", total=20)
            sandbox.admin.release()
            await settle_all(rig, delivery)

    run(scenario())
    assert [version.document["purchase_total"] for version in sandbox.admin.versions("A-1")] == [10, 20]
    record = rig.shop.record("1")
    assert record["settled_revision"] == record["revision"] == 2
    assert sandbox.admin.stats()["most_in_flight_of_one_order"] == 1


def test_quarantine_ends_with_a_change(rig: Rig, sandbox: RunningSandbox) -> None:
    """An order in quarantine is left alone until its rows change, and is then sent alone once."""
    refuse(sandbox, "A-1", named=True)

    async def scenario() -> None:
        async with rig.delivery() as delivery:
            await delivery.loop.run_once()
            rig.shop.order("1")
            await delivery.until(lambda: rig.shop.record("1")["quarantine_revision"] == 1)
            sandbox.admin.clear_faults()
            with rig.shop.connection.transaction():
                rig.shop.order("1", total=12)
                rig.shop.order("2")
            await settle_all(rig, delivery)

    run(scenario())
    assert total(sandbox, "A-1") == 12
    sent = [entry["order_ids"] for entry in sandbox.admin.requests() if entry["status"] == 200]
    assert ["A-1"] in [list(ids) for ids in sent]
    assert not rig.shop.record("1")["send_alone"]


def test_quarantine_ends_with_another_mapping(rig: Rig, sandbox: RunningSandbox, tmp_path: Path) -> None:
    """Another mapping version judges anew what the one before put into quarantine."""
    refuse(sandbox, "A-1", named=True)
    (tmp_path / "new").mkdir()
    other = mapping_at(tmp_path / "new", extra="  order_tags: \"['new']\"\n")

    async def scenario() -> None:
        async with rig.delivery() as delivery:
            await delivery.loop.run_once()
            rig.shop.order("1")
            await delivery.until(lambda: rig.shop.record("1")["quarantine_revision"] == 1)
            await delivery.loop.drain()
        sandbox.admin.clear_faults()
        async with rig.delivery(mapping=other) as delivery:
            await delivery.until(lambda: rig.shop.record("1")["accepted_at"])

    run(scenario())
    assert sandbox.admin.orders()["A-1"]["order_tags"] == ["new"]


@pytest.mark.parametrize("asked", [False, True])
def test_new_mapping_resends_only_where_that_was_asked_for(
    rig: Rig, sandbox: RunningSandbox, tmp_path: Path, asked: bool
) -> None:
    """A mapping that would change every document sends none by itself; with the setting, those that come out otherwise.

    What the new mapping leaves as it is costs no request either way.
    """
    (tmp_path / "new").mkdir()
    other = mapping_at(tmp_path / "new", extra="  order_tags: \"['big'] if row.total > 10 else []\"\n")

    async def scenario() -> None:
        async with rig.delivery() as delivery:
            await delivery.loop.run_once()
            with rig.shop.connection.transaction():
                for number in range(20):
                    rig.shop.order(f"{number:02}", total=1 + number)
            await settle_all(rig, delivery)
            await delivery.loop.drain()
        rig.shop.connection.execute("update mapping_in_force set version = %s", [other.version])
        async with rig.delivery(mapping=other, resend_on_new_mapping=asked) as delivery:
            if asked:
                await delivery.until(lambda: rig.shop.one("select min(revision) from order_sync") == 2)
            while await delivery.loop.run_once():
                pass
            await settle_all(rig, delivery)
            await delivery.loop.drain()
        async with rig.delivery(mapping=other, resend_on_new_mapping=asked) as delivery:
            while await delivery.loop.run_once():
                pass

    run(scenario())
    tagged = {order_id for order_id, order in sandbox.admin.orders().items() if order["order_tags"] == ["big"]}
    assert tagged == ({f"A-{number:02}" for number in range(10, 20)} if asked else set())
    assert sandbox.admin.stats()["accepted_orders"] == 20 + len(tagged)
    assert rig.shop.one("select max(revision) from order_sync") == 1 + asked


def test_missing_part_is_waited_for(rig: Rig, sandbox: RunningSandbox) -> None:
    """An order whose look-up row has not arrived is held with its reason, and sent when the row is there."""

    async def scenario() -> None:
        async with rig.delivery() as delivery:
            await delivery.loop.run_once()
            rig.shop.order("1", customer_id=8)
            await delivery.until(lambda: rig.shop.record("1")["hold"] == "waiting")
            assert sandbox.admin.stats()["posts"] == 0
            rig.shop.row("customers", "8", None, {"id": 8, "name": "Bob"})
            await settle_all(rig, delivery)
            assert rig.shop.record("1")["hold"] is None

    run(scenario())
    assert sandbox.admin.orders()["A-1"]["customer_name"] == "Bob"


def test_waiting_ends_after_a_while(rig: Rig, sandbox: RunningSandbox) -> None:
    """After its longest wait a look-up row that never came counts as missing."""

    async def scenario() -> None:
        async with rig.delivery(waiting_max_secs=0.3) as delivery:
            await delivery.loop.run_once()
            rig.shop.order("1", customer_id=8)
            await settle_all(rig, delivery)

    run(scenario())
    order = sandbox.admin.orders().get("A-1")
    record = rig.shop.record("1")
    assert order is not None or record["quarantine_reason"] == "invalid"


def test_cancelled_order_is_zeroed_once_sent(rig: Rig, sandbox: RunningSandbox) -> None:
    """An order that was sent and is cancelled then is zeroed and tagged; doing so again costs no request."""

    async def scenario() -> None:
        async with rig.delivery() as delivery:
            await delivery.loop.run_once()
            rig.shop.order("1", total=10)
            await settle_all(rig, delivery)
            rig.shop.order("1", total=10, status="cancelled")
            await settle_all(rig, delivery)
            rig.shop.order("1", total=10, status="cancelled", note="x")
            await settle_all(rig, delivery)

    run(scenario())
    assert total(sandbox, "A-1") == 0
    assert sandbox.admin.orders()["A-1"]["order_tags"] == ["Cancelled"]
    assert len(sandbox.admin.versions("A-1")) == 2
    assert rig.shop.record("1")["voided"]


def test_order_cancelled_before_it_was_sent_is_never_sent(rig: Rig, sandbox: RunningSandbox) -> None:
    """What the API has never heard of is not zeroed there."""

    async def scenario() -> None:
        async with rig.delivery() as delivery:
            await delivery.loop.run_once()
            rig.shop.order("1", status="cancelled")
            rig.shop.order("2", status="draft")
            await settle_all(rig, delivery)

    run(scenario())
    assert sandbox.admin.stats()["posts"] == 0
    assert rig.shop.record("1")["hold"] == "void"
    assert not rig.shop.record("1")["ever_attempted"]


def test_order_cancelled_after_an_unanswered_request_is_zeroed(rig: Rig, sandbox: RunningSandbox) -> None:
    """An attempt without an answer may have arrived: the cancelled order is zeroed, though it was never accepted."""
    sandbox.admin.fault("drop_after")

    async def scenario() -> None:
        async with rig.delivery() as delivery:
            await delivery.loop.run_once()
            rig.shop.order("1")
            await delivery.until(lambda: rig.shop.one("select 1 from delivery_request where outcome = 'unknown'"))
            rig.shop.order("1", status="cancelled")
            await settle_all(rig, delivery)

    run(scenario())
    assert total(sandbox, "A-1") == 0


@pytest.mark.parametrize(("on_delete", "expected"), [("keep", 10), ("void", 0)])
def test_deleted_order_is_kept_or_zeroed_as_the_mapping_says(
    rig: Rig, sandbox: RunningSandbox, tmp_path: Path, on_delete: str, expected: int
) -> None:
    """`on_delete` decides what becomes of a sent order whose row is deleted."""
    rig.mapping = mapping_at(tmp_path, on_delete=on_delete)

    async def scenario() -> None:
        async with rig.delivery() as delivery:
            await delivery.loop.run_once()
            rig.shop.order("1", total=10)
            await settle_all(rig, delivery)
            rig.shop.order("1", total=10, deleted=True)
            await settle_all(rig, delivery)

    run(scenario())
    assert total(sandbox, "A-1") == expected


def test_vendor_down_opens_the_circuit_and_loses_nothing(rig: Rig, sandbox: RunningSandbox) -> None:
    """While the API cannot be reached orders wait without attempts; when it is back they arrive."""
    sandbox.server.stop()

    async def scenario() -> None:
        async with rig.delivery() as delivery:
            await delivery.loop.run_once()
            for number in range(3):
                rig.shop.order(str(number))
            await delivery.until(lambda: delivery.metrics.circuit_open.labels("d")._value.get() == 1)
            assert rig.shop.one("select sum(attempts) from order_sync") == 0
            assert not rig.shop.record("1")["ever_attempted"]
            sandbox.server.start()
            await settle_all(rig, delivery)
            assert delivery.metrics.circuit_open.labels("d")._value.get() == 0

    run(scenario())
    assert len(sandbox.admin.orders()) == 3


def test_poison_order_is_found_while_others_flow(rig: Rig, sandbox: RunningSandbox) -> None:
    """One order whose requests always end in a 500 is isolated and quarantined; the others arrive."""
    sandbox.admin.fault("status", status=500, order_id="A-2", count=None)

    async def scenario() -> None:
        # A short fence: every round of narrowing down waits for one.
        async with rig.delivery(
            start_grace_secs=0.1, request_timeout_secs=0.3, connect_timeout_secs=0.3, vendor_settle_secs=0.02
        ) as delivery:
            await delivery.loop.run_once()
            with rig.shop.connection.transaction():
                for number in range(4):
                    rig.shop.order(str(number))
            await delivery.until(lambda: rig.shop.owed() == 0, secs=30)

    run(scenario())
    assert set(sandbox.admin.orders()) == {"A-0", "A-1", "A-3"}
    record = rig.shop.record("2")
    assert record["quarantine_reason"] == "fails_500"
    assert record["ever_attempted"]


def test_too_large_batch_is_halved_and_the_size_remembered(rig: Rig, sandbox: RunningSandbox) -> None:
    """A 413 shrinks requests; everything arrives, and the state remembers what was too much."""
    sandbox.admin.options(max_body_bytes=2000)

    async def scenario() -> None:
        async with rig.delivery() as delivery:
            await delivery.loop.run_once()
            with rig.shop.connection.transaction():
                for number in range(20):
                    rig.shop.order(str(number))
            await settle_all(rig, delivery)
            await delivery.until(lambda: rig.shop.one("select largest_body from destination") is not None)

    run(scenario())
    assert len(sandbox.admin.orders()) == 20
    assert rig.shop.one("select count(*) from order_sync where quarantine_revision is not null") == 0


def test_vendor_id_of_a_deleted_order_can_be_taken_over(rig: Rig, sandbox: RunningSandbox) -> None:
    """A new order may take the API's id of one that is deleted; one whose holder lives is a duplicate."""

    async def scenario() -> None:
        async with rig.delivery(waiting_max_secs=0.2) as delivery:
            await delivery.loop.run_once()
            rig.shop.order("1", total=10)
            await settle_all(rig, delivery)
            rig.shop.order("2", number="A-1", total=20)
            await settle_all(rig, delivery)
            assert rig.shop.record("2")["quarantine_reason"] == "duplicate_vendor_id"
            assert total(sandbox, "A-1") == 10
            rig.shop.order("1", total=10, deleted=True)
            await settle_all(rig, delivery)
            rig.shop.order("2", number="A-1", total=20)
            await settle_all(rig, delivery)

    run(scenario())
    assert total(sandbox, "A-1") == 20
    assert rig.shop.record("1")["hold"] == "superseded"
    assert rig.shop.record("2")["vendor_order_id"] == "A-1"


def test_vendor_id_of_a_sent_order_never_changes(rig: Rig, sandbox: RunningSandbox) -> None:
    """A sent order whose id at the API would change is quarantined, not sent as a second order."""

    async def scenario() -> None:
        async with rig.delivery() as delivery:
            await delivery.loop.run_once()
            rig.shop.order("1")
            await settle_all(rig, delivery)
            rig.shop.order("1", number="B-1")
            await settle_all(rig, delivery)

    run(scenario())
    assert set(sandbox.admin.orders()) == {"A-1"}
    assert rig.shop.record("1")["quarantine_reason"] == "vendor_id_changed"


def test_budget_is_kept_as_the_api_sees_it(rig: Rig, sandbox: RunningSandbox) -> None:
    """A backlog of several windows' bytes is sent without one 429, across a change of leaders."""
    sandbox.admin.options(budget_bytes=12_000, budget_window_secs=1.0)
    small = {"budget_bytes": 12_000, "max_request_bytes": 3_000, "budget_window_secs": 1.0}

    async def scenario() -> None:
        async with rig.delivery(**small) as delivery:
            await delivery.loop.run_once()
            with rig.shop.connection.transaction():
                for number in range(100):
                    rig.shop.order(str(number))
            await delivery.until(lambda: sandbox.admin.stats()["accepted_orders"] >= 30)
            await delivery.loop.drain()
        async with rig.delivery(**small) as delivery:
            await delivery.until(lambda: rig.shop.owed() == 0, secs=30)

    run(scenario())
    stats = sandbox.admin.stats()
    assert stats["budget_violations"] == 0
    assert stats["orders"] == 100


def test_paused_destination_sends_nothing_until_resumed(rig: Rig, sandbox: RunningSandbox) -> None:
    """An operator's pause is obeyed within a turn and survives, as long as it is stored."""

    async def scenario() -> None:
        async with rig.delivery() as delivery:
            await delivery.loop.run_once()
            rig.shop.connection.execute("update destination set paused = true")
            rig.shop.order("1")
            for _ in range(5):
                await delivery.loop.run_once()
            assert sandbox.admin.stats()["posts"] == 0
            rig.shop.connection.execute("update destination set paused = false")
            await settle_all(rig, delivery)

    run(scenario())
    assert set(sandbox.admin.orders()) == {"A-1"}


def test_second_process_waits_for_the_lease(rig: Rig, sandbox: RunningSandbox) -> None:
    """Of two processes one delivers; the other takes over when the first returns its lease."""

    async def scenario() -> None:
        async with rig.delivery() as first, rig.delivery() as second:
            await first.loop.run_once()
            await second.loop.run_once()
            assert first.metrics.leader.labels("d")._value.get() == 1
            assert second.metrics.leader.labels("d")._value.get() == 0
            await first.loop.drain()
            rig.shop.order("1")
            await settle_all(rig, second)

    run(scenario())
    assert set(sandbox.admin.orders()) == {"A-1"}


def test_stop_settles_what_is_in_flight_and_returns_the_lease(rig: Rig, sandbox: RunningSandbox) -> None:
    """Told to stop with a POST in flight, the loop waits for its answer, settles it, starts nothing more, and ends."""
    sandbox.admin.fault("delay", seconds=0.4)

    async def scenario() -> None:
        async with rig.delivery(requests_in_flight=1) as delivery:
            await delivery.loop.run_once()
            rig.shop.order("1")
            stop = asyncio.Event()
            running = asyncio.create_task(delivery.loop.run(stop))
            await asyncio.to_thread(sandbox.admin.wait, "in_flight", 1)
            rig.shop.order("2")
            stop.set()
            await running

    run(scenario())
    assert set(sandbox.admin.orders()) == {"A-1"}
    assert rig.shop.record("1")["settled_revision"] == 1
    assert rig.shop.record("2")["request_id"] is None
    assert rig.shop.one("select expires_at < now() from lease")


def test_late_finisher_reopens_what_it_may_have_overwritten(rig: Rig, sandbox: RunningSandbox) -> None:
    """A process that went on after its lease was taken settles nothing; the orders it sent are sent once more."""
    sandbox.admin.fault("delay")

    async def scenario() -> None:
        async with rig.delivery() as first:
            await first.loop.run_once()
            rig.shop.order("1", total=10)
            await first.until(lambda: sandbox.admin.stats()["held"] == 1)
            rig.shop.connection.execute("update lease set epoch = epoch + 1, holder = null, expires_at = '-infinity'")
            sandbox.admin.release()
            await first.until(lambda: rig.shop.record("1")["revision"] == 2, "the re-opening")
            assert rig.shop.record("1")["settled_revision"] == 0
            await settle_all(rig, first)

    run(scenario())
    assert len(sandbox.admin.versions("A-1")) == 2


def test_changed_identity_is_refused(rig: Rig, sandbox: RunningSandbox) -> None:
    """A destination's name never silently stands for another account."""

    async def scenario() -> None:
        async with rig.delivery() as delivery:
            await delivery.loop.run_once()
            await delivery.loop.drain()
        rig.client_id = "another"
        async with rig.delivery() as delivery:
            with pytest.raises(DestinationError, match=r"destinations\.d: .*new name"):
                await delivery.loop.run_once()

    run(scenario())
