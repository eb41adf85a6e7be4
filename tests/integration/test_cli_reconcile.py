"""`reconcile`: real orders, a real delivery, and an API that lost, changed, hid or got more than it was sent."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from cli_project import Project
from delivery_rig import Rig, mapping_at
from fixtures.sandbox import RunningSandbox

from daemon.cli import reconcile
from daemon.state import reconcile as books

pytestmark = pytest.mark.postgres

RANGE = ("--from", "2026-03-01", "--to", "2026-03-03")


@pytest.fixture
def delivered(rig: Rig) -> Rig:
    """Twelve orders of six days at the API, by a real delivery: 1 and 2 of February 27, 3 and 4 of the 28th, ..."""

    async def scenario() -> None:
        async with rig.delivery() as delivery:
            await delivery.loop.run_once()
            for index, day in enumerate(("02-27", "02-28", "03-01", "03-02", "03-03", "03-04")):
                for number in (1, 2):
                    rig.shop.order(str(2 * index + number), placed_at=f"2026-{day}T0{number}:30:00Z")
            await delivery.until(lambda: rig.shop.owed() == 0)
            await delivery.loop.drain()

    asyncio.run(scenario())
    return rig


@pytest.fixture
def project(
    delivered: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Project:
    """A project over that delivery, which takes what was accepted for applied at once."""
    monkeypatch.setenv("LOGNAME", "alice")
    monkeypatch.setattr(reconcile, "PAGE", 2)
    monkeypatch.setattr(books, "PAGE", 5)
    made = Project(tmp_path, monkeypatch, capsys)
    made.set("postgres", dsn=delivered.postgres.dsn)
    made.set("delivery", vendor_settle_secs=0.001)
    made.sections["destinations"] = {"d": {"base_url": delivered.url, "client_id": delivered.client_id}}
    mapping_at(tmp_path)
    return made


def found(project: Project, *arguments: str) -> dict[str, Any]:
    """What a run says as JSON; its exit code is compared with it."""
    ran = project("reconcile", *RANGE, "--json", *arguments)
    result: dict[str, Any] = ran.json()
    drifts = any(result[kind] for kind in ("missing", "extra", "different", "silent_days"))
    assert ran.code == int(drifts), ran.err
    return result


def post(rig: Rig, sandbox: RunningSandbox, order_id: str, day: str) -> None:
    """Somebody else sends an order with the same key."""
    document = json.loads(sandbox.admin.raw_orders()[0]) | {
        "order_id": order_id,
        "time_of_purchase": f"2026-{day}T10:00:00Z",
    }
    headers = {"Authorization": rig.api_key, "Data-Client-ID": rig.client_id}
    httpx.post(rig.url + "/v2/orders", json=[document], headers=headers).raise_for_status()


QUIRKS: list[dict[str, Any]] = [
    {},
    {"get_as_string": True, "get_extra_fields": True},
    {"get_end_inclusive": False},
]


@pytest.mark.parametrize("quirks", QUIRKS, ids=["plain", "string", "exclusive"])
def test_what_is_as_it_was_accepted(project: Project, sandbox: RunningSandbox, quirks: dict[str, Any]) -> None:
    """Nothing to say, in every form of the answer; exit code 0, and the result is kept."""
    sandbox.admin.options(**quirks)
    result = found(project)
    assert (result["compared"], result["unfinished"], result["orders"]) == (6, 0, [])
    assert "6 orders compared: 0 missing, 0 extra, 0 different" in project("reconcile", *RANGE).out


@pytest.mark.parametrize("quirks", QUIRKS, ids=["plain", "string", "exclusive"])
def test_missing_extra_and_different_orders_are_told(
    project: Project, rig: Rig, sandbox: RunningSandbox, quirks: dict[str, Any]
) -> None:
    """Each once, with its attributes and without values; orders of other days are nobody's business."""
    sandbox.admin.options(**quirks)
    for order_id in ("A-1", "A-5", "A-12"):
        sandbox.admin.forget(order_id)
    sandbox.admin.flip("A-7", "purchase_total")
    sandbox.admin.flip("A-7", "customer_name")
    sandbox.admin.flip("A-11", "tax")
    post(rig, sandbox, "B-1", "03-02")
    post(rig, sandbox, "B-2", "03-08")
    result = found(project)
    assert (result["missing"], result["extra"], result["different"]) == (1, 1, 1)
    assert sorted((one["kind"], one["order_id"], one["order_key"], one["attributes"]) for one in result["orders"]) == [
        ("different", "A-7", "7", ["purchase_total", "customer_name"]),
        ("extra", "B-1", None, []),
        ("missing", "A-5", "5", []),
    ]
    text = project("reconcile", *RANGE).out
    assert "purchase_total, customer_name" in text
    assert "Ada" not in text


def test_marked_orders_are_sent_anew(project: Project, rig: Rig, sandbox: RunningSandbox) -> None:
    """Missing and different ones are owed, forced, in the backfill; after a delivery nothing drifts any more."""
    sandbox.admin.forget("A-5")
    sandbox.admin.flip("A-7")
    post(rig, sandbox, "B-1", "03-02")
    assert found(project)["marked"] == 0
    assert rig.shop.owed() == 0
    assert found(project, "--mark")["marked"] == 2
    owed = rig.shop.connection.execute(
        "select order_key, lane, digest from order_sync where revision > settled_revision order by 1"
    ).fetchall()
    assert owed == [("5", 1, None), ("7", 1, None)]
    [action] = rig.shop.connection.execute("select who, command, arguments, affected from operator_action").fetchall()
    asked = {"destination": "d", "from": "2026-03-01", "to": "2026-03-03"}
    assert action == ("alice", "reconcile --mark", asked, 2)

    async def scenario() -> None:
        async with rig.delivery() as delivery:
            await delivery.until(lambda: rig.shop.owed() == 0)
            gauge = delivery.metrics.drift_orders
            await delivery.until(lambda: gauge.labels("d", "missing")._value.get() == 1, "the metric of the drift")
            assert gauge.labels("d", "extra")._value.get() == gauge.labels("d", "different")._value.get() == 1
            await delivery.loop.drain()

    asyncio.run(scenario())
    result = found(project)
    assert (result["missing"], result["extra"], result["different"]) == (0, 1, 0)


def test_silent_day_is_told_as_such(project: Project, sandbox: RunningSandbox) -> None:
    """A day of which the API shows nothing is a line of its own; --trust-empty makes its orders missing."""
    sandbox.admin.options(get_hidden_days=["2026-03-02"])
    result = found(project)
    assert result["silent_days"] == [{"day": "2026-03-02", "accepted_orders": 2}]
    assert (result["missing"], result["compared"]) == (0, 4)
    assert "Days of which the API returned nothing" in project("reconcile", *RANGE).out
    assert found(project, "--mark")["marked"] == 0
    result = found(project, "--trust-empty")
    assert (result["missing"], result["silent_days"]) == (2, [])


def test_orders_on_their_way_are_not_judged(project: Project, rig: Rig, sandbox: RunningSandbox) -> None:
    """In flight, attempted since without an acceptance, or accepted a moment ago: nobody can say what is right."""
    for order_id in ("A-5", "A-6", "A-7"):
        sandbox.admin.flip(order_id)
    sandbox.admin.forget("A-8")
    rig.shop.connection.execute("update order_sync set request_id = 1 where order_key in ('5', '8')")
    rig.shop.connection.execute("update order_sync set last_attempted = 'x' where order_key = '6'")
    rig.shop.connection.execute("update order_sync set accepted_at = now() + interval '1 h' where order_key = '7'")
    result = found(project)
    assert (result["unfinished"], result["orders"]) == (4, [])
    project.set("delivery", vendor_settle_secs=60)
    assert found(project)["unfinished"] == 6


def test_owed_order_is_judged_by_what_was_accepted(project: Project, rig: Rig, sandbox: RunningSandbox) -> None:
    """A change that was not sent yet is no drift; what was accepted before it has to be there all the same."""
    rig.shop.order("5", total=99)
    rig.shop.order("7", total=99)
    sandbox.admin.flip("A-7", "tax")
    assert [(one["order_id"], one["attributes"]) for one in found(project)["orders"]] == [("A-7", ["tax"])]


def test_long_stretches_are_read_in_parts(project: Project, sandbox: RunningSandbox) -> None:
    """More days than fit one look through the accepted orders."""
    sandbox.admin.flip("A-1")
    ran = project("reconcile", "--from", "2026-01-15", "--to", "2026-04-01", "--json")
    assert (ran.json()["compared"], ran.json()["different"]) == (12, 1)
    gets = [entry for entry in sandbox.admin.requests() if entry["method"] == "GET"]
    assert len(gets) == 77 + 3


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("--from", "2026-03-02", "--to", "2026-03-01"), 2, "--from 2026-03-02 is after --to 2026-03-01"),
        (("--from", "March", "--to", "2026-03-01"), 2, ""),
        ((*RANGE, "--destination", "x"), 2, "--destination x: the settings have no such destination"),
    ],
)
def test_what_cannot_be_is_refused(project: Project, arguments: tuple[str, ...], code: int, message: str) -> None:
    """Exit code 2 and a reason."""
    ran = project("reconcile", *arguments)
    assert ran.code == code
    assert message in ran.err


@pytest.mark.parametrize(
    ("fault", "code", "message"),
    [
        ({"status": 401}, 2, "it refuses ORDER_SYNC_API_KEY"),
        ({"status": 429, "headers": {"Retry-After": "7"}}, 1, "answers 429 and asks to wait 7 s; try again from 2026-"),
        ({"status": 502}, 1, "answers 502"),
        ({"status": 200, "body": "<html>"}, 1, "the answer is no list of orders"),
        ({"status": 200, "body": '[{"order_id": "A'}, 1, "the answer is no JSON"),
    ],
)
def test_api_that_does_not_answer_ends_the_run(
    project: Project, sandbox: RunningSandbox, rig: Rig, fault: dict[str, Any], code: int, message: str
) -> None:
    """What was asked, why it failed, and nothing that looks like a result."""
    sandbox.admin.fault("status", method="GET", nth=2, **fault)
    ran = project("reconcile", *RANGE)
    assert ran.code == code
    assert message in ran.err
    assert rig.shop.one("select count(*) from reconciliation") == 0
