"""A batch of a thousand with bad orders in it: what the refusals cost, for either reading of a 400.

The bad orders are bad by the sandbox's own rules (a product twice), not by a fault: what it applies of a refused batch
is up to the reading.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from delivery_rig import MAPPING, Rig
from fixtures.sandbox import RunningSandbox

from daemon.mapping.loader import load_mapping
from daemon.sandbox.options import ErrorShape, Refusal

pytestmark = pytest.mark.postgres

ORDERS = 1000
BAD = (71, 214, 357, 500, 643, 786, 929)
PATIENT = {"start_grace_secs": 10.0, "request_timeout_secs": 20.0, "lease_secs": 60.0}
"""To write down a request of a thousand orders takes a while on a busy machine."""

READINGS: list[Refusal] = ["batch", "orders"]


@pytest.fixture
def shop(rig: Rig, sandbox: RunningSandbox, tmp_path: Path) -> Rig:
    """A shop whose lines have variants, and an API that takes a product once."""
    path = tmp_path / "mapping.yaml"
    text = MAPPING.format(on_delete="keep")
    path.write_text(text.replace("{id: l.sku, name: l.sku,", "{id: l.sku, variant_id: text(l.id), name: l.sku,"))
    rig.mapping = load_mapping(path)
    sandbox.admin.options(unique_product_ids=True)
    return rig


def add_orders(rig: Rig, bad: set[int]) -> None:
    """A thousand orders, due at the same moment; the bad ones name a product twice."""
    with rig.shop.connection.pipeline(), rig.shop.connection.transaction():
        for number in range(ORDERS):
            key = f"{number:03}"
            rig.shop.order(key, mark=False)
            if number in bad:
                line = {"id": f"{key}-2", "order_id": key, "sku": "S", "quantity": 1, "price": 1}
                rig.shop.row("order_lines", f"{key}-2", key, line)
        rig.shop.mark(*(f"{number:03}" for number in range(ORDERS)))


def posts(sandbox: RunningSandbox) -> list[dict[str, int]]:
    """The requests that carried orders."""
    return [entry for entry in sandbox.admin.requests() if entry["method"] == "POST"]


@pytest.mark.parametrize("refusal", READINGS)
@pytest.mark.parametrize(("shape", "most_requests", "most_bytes"), [("encoded", 3, 2.0), ("text", 115, 6.0)])
def test_seven_bad_orders_of_a_thousand(
    shop: Rig, sandbox: RunningSandbox, refusal: Refusal, shape: ErrorShape, most_requests: int, most_bytes: float
) -> None:
    """The bad ones end in quarantine with what was said, all others at the API, within so many requests and bytes."""
    sandbox.admin.options(refusal=refusal, error_shape=shape)

    async def scenario() -> None:
        async with shop.delivery(**PATIENT) as delivery:
            await delivery.loop.run_once()
            add_orders(shop, set(BAD))
            await delivery.until(lambda: shop.shop.owed() == 0, "settling everything", secs=200)

    asyncio.run(scenario())
    bad = {f"{number:03}" for number in BAD}
    assert set(sandbox.admin.orders()) == {f"A-{number:03}" for number in range(ORDERS)} - {f"A-{key}" for key in bad}
    for key in bad:
        record = shop.shop.record(key)
        assert record["quarantine_revision"] == record["revision"]
        assert record["quarantine_reason"] == "rejected"
        assert record["attempts"] == 1
        assert ("duplicate product" in record["last_error"].lower()) == (shape == "encoded"), record["last_error"]
        assert record["last_error"]
    assert shop.shop.one("select count(*) from order_sync where quarantine_revision is not null") == len(BAD)
    assert shop.shop.one("select count(*) from order_sync where accepted_at is not null") == ORDERS - len(BAD)
    sent = posts(sandbox)
    assert len(sent[0]["order_ids"]) == ORDERS, "they went out as one batch"
    assert len(sent) <= most_requests
    assert sum(entry["size"] for entry in sent) <= most_bytes * sent[0]["size"]


@pytest.mark.parametrize("refusal", READINGS)
@pytest.mark.parametrize("shape", ["encoded", "text"])
def test_a_thousand_orders_bad_alike(shop: Rig, sandbox: RunningSandbox, refusal: Refusal, shape: ErrorShape) -> None:
    """All are refused for one reason: our fault. The destination halts, no order is quarantined or loses an attempt."""
    sandbox.admin.options(refusal=refusal, error_shape=shape)

    async def scenario() -> None:
        async with shop.delivery(**PATIENT) as delivery:
            await delivery.loop.run_once()
            add_orders(shop, set(range(ORDERS)))
            await delivery.until(lambda: shop.shop.one("select halted_reason from destination"), secs=200)

    asyncio.run(scenario())
    assert sandbox.admin.orders() == {}
    assert shop.shop.owed() == ORDERS
    for none in ("quarantine_revision is not null", "attempts > 0", "settled_revision > 0"):
        assert shop.shop.one(f"select count(*) from order_sync where {none}") == 0
