"""`plan`: what it counts and shows of orders that a real delivery sent, and what it refuses."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cli_project import Project
from confluent_kafka import Producer
from delivery_rig import MAPPING, Rig
from fixtures.sandbox import RunningSandbox

from daemon.state import reads
from daemon.state.structure import claim_mapping

pytestmark = pytest.mark.postgres


@pytest.fixture
def delivered(rig: Rig) -> Rig:
    """Six orders at the API, by a real delivery."""

    async def scenario() -> None:
        async with rig.delivery() as delivery:
            await delivery.loop.run_once()
            for number in range(1, 7):
                rig.shop.order(str(number))
            await delivery.until(lambda: rig.shop.owed() == 0)
            await delivery.loop.drain()

    asyncio.run(scenario())
    return rig


@pytest.fixture
def project(
    delivered: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Project:
    """A project over that delivery's state, destination and mapping."""
    made = Project(tmp_path, monkeypatch, capsys)
    made.set("postgres", dsn=delivered.postgres.dsn)
    made.sections["destinations"] = {"d": {"base_url": delivered.url, "client_id": delivered.client_id}}
    write(made, "mapping.yaml")
    return made


def write(project: Project, name: str, *changes: tuple[str, str], extra: str = "") -> None:
    """Write the mapping with pieces of it exchanged."""
    text = MAPPING.format(on_delete="keep") + extra
    for old, new in changes:
        assert old in text, old
        text = text.replace(old, new)
    (project.folder / name).write_text(text)


def test_nothing_changes_by_the_mapping_that_sent(project: Project, rig: Rig, sandbox: RunningSandbox) -> None:
    """All orders come out as they were accepted; the API hears nothing of it."""
    found = project("plan", "--json").json()
    assert {fate: count for fate, count in found["orders"].items() if count} == {"unchanged": 6}
    assert found["requested"] == {"orders": 0, "bytes": 0, "budget_secs": 0}
    assert sandbox.admin.stats()["posts"] == 1


def test_orders_are_judged_as_delivery_would(
    project: Project, rig: Rig, sandbox: RunningSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each fate by its own rule: changed, new, voided, held, waiting, invalid; pages make no difference."""
    monkeypatch.setattr(reads, "ORDER_PAGE", 2)
    shop = rig.shop
    shop.order("1", status="cancelled", mark=False)
    shop.order("2", status="draft", mark=False)
    shop.order("3", currency="EURO", mark=False)
    shop.order("4", total=12, mark=False)
    shop.order("5", number="B-5", mark=False)
    shop.order("7")
    shop.order("8", customer_id=9)
    shop.order("9", status="draft")
    found = project("plan", "--json").json()
    assert found["orders"] == {
        "unchanged": 1,
        "changed": 1,
        "uncertain": 0,
        "new": 1,
        "voided": 2,
        "not_sent": 1,
        "waiting": 1,
        "invalid": 2,
    }
    assert found["attributes"] == {"purchase_total": 1, "products.price": 1}
    assert {fault["reason"]: fault["order_key"] for fault in found["faults"]} == {
        "invalid": "3",
        "vendor_id_changed": "5",
    }
    changed = next(example for example in found["examples"] if example["fate"] == "changed")
    assert changed == {
        "order_key": "4",
        "order_id": "A-4",
        "fate": "changed",
        "differences": [
            {"attribute": "purchase_total", "accepted": 10, "planned": 12},
            {"attribute": "products.price", "accepted": [10], "planned": [12]},
        ],
    }
    assert found["requested"]["orders"] == 4

    async def scenario() -> None:
        async with rig.delivery() as delivery:
            shop.mark(*"12456789")
            await delivery.until(lambda: sandbox.admin.stats()["accepted_orders"] == 10)

    asyncio.run(scenario())
    sent = [entry["size"] - 1 for entry in sandbox.admin.requests() if entry["method"] == "POST"][1:]
    assert sum(sent) == found["requested"]["bytes"], "what it said is what delivery then sent"


def test_what_may_not_be_at_the_api_is_planned_too(project: Project, rig: Rig) -> None:
    """After the state went back an equal document may not be what the API has: `resend --changed` sends it."""
    rig.shop.connection.execute(
        "insert into era (number, installation, began_at, cause, targets_at, replayed_at)"
        " select number + 1, installation, now(), 'restored', now(), now() from era"
    )
    found = project("plan", "--json").json()
    assert {fate: count for fate, count in found["orders"].items() if count} == {"uncertain": 6}
    assert found["requested"]["orders"] == 6
    assert found["requested"]["bytes"] > 0


def test_another_mapping_is_planned_before_it_is_in_force(project: Project, rig: Rig) -> None:
    """With --mapping the file's own rules count, and what would change is told per attribute, side by side."""
    rig.shop.row("customers", "7", None, {"id": 7, "name": "Grace"})
    write(project, "new.yaml", ('tax: "0"', "tax: row.total / 10"), extra="  order_tags: \"['x']\"\n")
    found = project("plan", "--mapping", "new.yaml", "--json", "--examples", "2").json()
    assert found["orders"]["changed"] == 6
    assert found["attributes"] == {"tax": 6, "order_tags": 6, "customer_name": 6}
    assert len(found["examples"]) == 2
    assert {"attribute": "tax", "accepted": 0, "planned": 1} in found["examples"][0]["differences"]
    text = project("plan", "--mapping", "new.yaml").out
    assert "A-1 (changed)" in text
    assert "would send 6 orders" in text
    assert "Grace" not in text
    assert "Grace" in project("plan", "--mapping", "new.yaml", "--reveal").out
    assert rig.shop.one("select max(revision) from order_sync") == 1, "nothing is marked"


def test_order_is_shown_with_the_origin_of_each_value(project: Project, rig: Rig) -> None:
    """Path, value, place in the file and expression; the sums; and what differs from the document last accepted."""
    rig.shop.order("4", total=12, lines=False, mark=False)
    [found] = project("plan", "A-4", "--json").json()
    assert (found["order_key"], found["ready"]) == ("4", True)
    lines = (project.folder / "mapping.yaml").read_text().splitlines()
    shown = {one["path"]: one for one in found["values"]}
    total, price = shown["purchase_total"], shown["products[0].price"]
    assert (total["value"], total["expression"], price["expression"]) == (12, "row.total", "l.price")
    for one in (total, price):
        file, line, column = one["place"].split(":")
        assert file == "mapping.yaml"
        assert lines[int(line) - 1][int(column) - 1 :].startswith(one["expression"])
    assert shown["refunds"]["expression"] == "(the engine)"
    assert shown["customer_name"]["value"] == "***"
    assert found["sums"] == {
        "lines": 10, "tax": 0, "shipping": 0, "total": 12, "tolerated": 0.01, "gap": 2, "agree": False,
    }  # fmt: skip
    assert found["changes"] == [{"attribute": "purchase_total", "accepted": 10, "planned": 12}]
    text = project("plan", "4", "--reveal").out
    assert "does NOT add up: 2 is missing from the lines" in text
    assert "Ada" in text


def test_invalid_order_is_shown_with_its_problems(project: Project, rig: Rig) -> None:
    """What is wrong, with its place, and exit code 1."""
    rig.shop.order("4", currency="EURO", mark=False)
    ran = project("plan", "4")
    assert ran.code == 1
    assert "currency: row.currency: is not a currency code that the API knows" in ran.out


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("topic: shop.order_lines\n", "topic: shop.order_lines\n    drop: [x]\n"), "run `order-sync rebuild --source"),
        (("match: {id: customer_id}", "match: {id: client_id}"), "the rows of orders would lead to their orders in"),
        (("  customers:\n", "  notes: {topic: t, key: [id]}\n  customers:\n"), "no relation leads here"),
        (("row.total\n  tax", "row.totall\n  tax"), "did you mean total?"),
    ],
)
def test_mapping_that_the_stored_rows_cannot_tell_of_is_refused(
    project: Project, rig: Rig, change: tuple[str, str], message: str
) -> None:
    """Exit code 2 and the way out, not a plan that would be wrong."""
    claim_mapping(rig.postgres, rig.mapping.version, rig.mapping.structure)
    for name, source in rig.mapping.structure.sources.items():
        rig.shop.connection.execute(
            "update source set relations = %s where name = %s", [source.relations_version(), name]
        )
    for column in ("id", "number", "status", "customer_id", "client_id", "placed_at", "currency", "total"):
        rig.shop.connection.execute(
            "insert into source_column (source, name, type) select id, %s, 'text' from source where name = 'orders'",
            [column],
        )
    write(project, "new.yaml", change)
    ran = project("plan", "--mapping", "new.yaml")
    assert ran.code == 2
    assert message in ran.err


def test_unread_source_is_refused(project: Project, rig: Rig) -> None:
    """A source that no message was read of yet could only make every order wait."""
    write(
        project,
        "new.yaml",
        (
            "  customers:\n    topic: shop.customers\n    key: [id]\n",
            "  people:\n    topic: shop.customers\n    key: [id]\n",
        ),
        ("source: customers", "source: people"),
    )
    ran = project("plan", "--mapping", "new.yaml")
    assert ran.code == 2
    assert "nothing of source people was ever read" in ran.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nobody",), "order nobody: no rows of it have arrived"),
        (("--destination", "x"), "--destination x: the settings have no such destination; they have d"),
        (("--mapping", "none.yaml"), "none.yaml: cannot be read"),
    ],
)
def test_what_cannot_be_is_refused(project: Project, arguments: tuple[str, ...], message: str) -> None:
    """Exit code 2 and a reason."""
    ran = project("plan", *arguments)
    assert ran.code == 2
    assert message in ran.err


def test_one_of_several_destinations_is_to_be_named(project: Project) -> None:
    """A plan is of one destination."""
    project.sections["destinations"]["e"] = {"base_url": "http://e", "client_id": "c"}
    ran = project("plan")
    assert ran.code == 2
    assert "there are several destinations: give --destination, one of d, e" in ran.err
    ran = project("plan", "--destination", "e")
    assert "destinations.e: the state does not know it yet" in ran.err


def test_topics_are_enough(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    broker: Any,
    topics: Callable[..., str],
) -> None:
    """Before anything is deployed: orders from the topics alone, whole, without Postgres."""
    project = Project(tmp_path, monkeypatch, capsys)
    names = {"orders": topics("orders"), "lines": topics("lines"), "customers": topics("customers")}
    project.mapping(**names)
    project.set("kafka", bootstrap_servers=broker.bootstrap)
    producer = Producer({"bootstrap.servers": broker.bootstrap})

    def put(source: str, offset: int, **row: Any) -> None:
        value = {
            "before": None, "after": row, "op": "c", "ts_ms": 1,
            "source": {"connector": "postgresql", "name": "oms", "db": "shop", "ts_ms": 1, "lsn": offset},
        }  # fmt: skip
        producer.produce(names[source], json.dumps(value), json.dumps({"id": row["id"]}))

    for number in (1, 2, 3):
        put("orders", number, id=number, number=f"A-{number}", status="paid" if number < 3 else "draft", customer_id=7,
            placed_at="2026-03-01T08:00:00Z", currency="EUR", total=10)  # fmt: skip
        put("lines", number, id=number, order_id=number, sku="S", title="Tea", quantity=1, price=10)
    put("customers", 9, id=7, email="jane@example.com")
    producer.flush(10)
    ran = project("plan", "--from-topic")
    assert ran.code == 0, ran.err
    assert "7 messages read, 3 orders: 1 ineligible, 2 ready" in ran.out
    assert "jane@example.com" not in ran.out
    [found] = project("plan", "--from-topic", "A-2", "--reveal", "--json").json()
    assert found["document"]["customer_email"] == "jane@example.com"
    assert found["sums"]["agree"] is True
    ran = project("plan", "--from-topic", "nobody")
    assert ran.code == 2
    assert "give a larger --limit" in ran.err
