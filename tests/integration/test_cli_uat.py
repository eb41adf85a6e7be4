"""`uat`: real documents at a test host, and nothing of it in the state."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from cli_project import Project
from delivery_rig import MAPPING, Shop
from fixtures.postgres import Database

from daemon.cli.mask import unpersonal
from daemon.sandbox.client import SandboxAdmin
from daemon.sandbox.options import ApiKey, SandboxOptions
from daemon.sandbox.server import SandboxServer

pytestmark = pytest.mark.postgres


@pytest.fixture
def host() -> Iterator[tuple[str, SandboxAdmin]]:
    """A test host that lets everybody in who says who they are."""
    options = SandboxOptions(keys=(), unique_product_ids=True)
    with SandboxServer(options) as server, SandboxAdmin(server.url) as admin:
        yield server.url, admin


@pytest.fixture
def shop(connection: psycopg.Connection) -> Shop:
    """Five orders that can be sent and, newest of all, a draft; nothing was ever delivered or even marked."""
    made = Shop(connection)
    for number in range(1, 7):
        made.order(str(number), mark=False, status="draft" if number == 6 else "paid")
        connection.execute("update source_row set first_seen = %s where key = %s", [number, str(number)])
    return made


@pytest.fixture
def project(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    database: Database,
    host: tuple[str, SandboxAdmin],
) -> Project:
    """A project whose test host is that one; its destination is nowhere."""
    made = Project(tmp_path, monkeypatch, capsys)
    made.set("postgres", dsn=database.settings.dsn)
    made.set("uat", base_url=host[0])
    variants = MAPPING.replace("{{id: l.sku, name", "{{id: l.sku, variant_id: text(l.id), name")
    (tmp_path / "mapping.yaml").write_text(variants.format(on_delete="keep"))
    return made


def spoil(shop: Shop, key: str) -> None:
    """A product twice: our validation lets it pass, this host does not."""
    line = {"id": f"{key}-2", "order_id": key, "sku": "S", "quantity": 1, "price": 1}
    shop.row("order_lines", f"{key}-2", key, line)


def test_newest_orders_pass_alone_and_together(project: Project, shop: Shop, host: tuple[str, SandboxAdmin]) -> None:
    """The newest that can be sent, as the vendor's public account; exit code 0, and the state is as it was."""
    ran = project("uat", "--orders", "3", "--json")
    assert ran.code == 0, ran.err
    found = ran.json()
    assert (found["passed"], [one["order_id"] for one in found["orders"]]) == (True, ["A-5", "A-4", "A-3"])
    assert {(one["single"], one["batched"]) for one in found["orders"]} == {("accepted", "accepted")}
    posts = host[1].requests()
    assert [sorted(entry["order_ids"]) for entry in posts] == [["A-3", "A-4", "A-5"], ["A-5"], ["A-4"], ["A-3"]]
    assert {entry["client_id"] for entry in posts} == {"test"}
    for table in ("order_sync", "delivery_request", "destination", "operator_action"):
        assert shop.one(f"select count(*) from {table}") == 0
    assert "Ada" not in project("uat").out


@pytest.mark.parametrize("shape", ["encoded", "text"])
def test_refused_order_is_told_from_the_others(
    project: Project, shop: Shop, host: tuple[str, SandboxAdmin], shape: str
) -> None:
    """One that fails alone fails; where the host names it, the batch is no verdict on the others. Exit code 1."""
    spoil(shop, "4")
    host[1].options(error_shape=shape)
    ran = project("uat", "--json")
    assert ran.code == 1
    found = {one["order_id"]: one for one in ran.json()["orders"]}
    assert {order_id for order_id, one in found.items() if one["single"] != "accepted"} == {"A-4"}
    if shape == "encoded":
        assert {order_id for order_id, one in found.items() if not one["passed"]} == {"A-4"}
        assert "duplicate product" in found["A-4"]["detail"]
        assert found["A-5"]["batched"] == "refused for others"
    else:
        assert {one["batched"] for one in found.values()} == {"rejected"}
    assert "4 of 5 orders pass" in project("uat").out or shape == "text"


def test_batches_keep_the_limits(project: Project, shop: Shop, host: tuple[str, SandboxAdmin]) -> None:
    """Orders and bytes of a request as in delivery."""
    project.set("delivery", max_orders_per_request=2)
    assert project("uat").code == 0
    assert [len(entry["order_ids"]) for entry in host[1].requests()] == [2, 2, 1, 1, 1, 1, 1, 1]


def test_named_order_that_cannot_be_posted_fails(project: Project, shop: Shop) -> None:
    """Why it makes no document is said; the others are posted."""
    ran = project("uat", "1", "6", "--json")
    assert ran.code == 1
    good, draft = ran.json()["orders"]
    assert (good["passed"], draft["passed"], draft["single"]) == (True, False, "not posted")
    assert draft["detail"] == "no order for the API: `when` of the mapping is false"


def test_a_key_of_ones_own(project: Project, shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the settings name a key it is sent; where it is missing, nothing is."""
    with (
        SandboxServer(SandboxOptions(keys=(ApiKey("own", "mine"),))) as server,
        SandboxAdmin(server.url) as admin,
    ):
        project.set("uat", client_id="mine", api_key_env="ORDER_SYNC_UAT_KEY")
        ran = project("uat", "--url", server.url)
        assert ran.code == 2
        assert "ORDER_SYNC_UAT_KEY is not set" in ran.err
        assert admin.requests() == []
        monkeypatch.setenv("ORDER_SYNC_UAT_KEY", "own")
        assert project("uat", "--url", server.url).code == 0
        monkeypatch.setenv("ORDER_SYNC_UAT_KEY", "other")
        ran = project("uat", "--url", server.url, "--json")
        assert ran.code == 1
        assert {one["single"] for one in ran.json()["orders"]} == {"refused"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--url", "https://api.northbeam.io"), "--url https://api.northbeam.io: api.northbeam.io is production"),
        (("--url", "https://API.northbeam.io./"), "is production"),
        (("--url", "nowhere"), "--url nowhere: must be scheme and host alone"),
        (("nobody",), "order nobody: no rows of it have arrived"),
        (("--destination", "x"), "--destination x: the settings have no such destination"),
    ],
)
def test_what_cannot_be_is_refused(project: Project, shop: Shop, arguments: tuple[str, ...], message: str) -> None:
    """Exit code 2 and a reason; nothing is posted."""
    ran = project("uat", *arguments)
    assert ran.code == 2
    assert message in ran.err


def test_production_in_the_settings_is_refused(project: Project, shop: Shop) -> None:
    """Test orders would count there."""
    project.set("uat", base_url="https://api.northbeam.io")
    ran = project("uat")
    assert ran.code == 2
    assert "api.northbeam.io is production" in ran.err


def test_host_that_is_not_there(project: Project, shop: Shop) -> None:
    """Every order fails, with what went wrong."""
    ran = project("uat", "1", "--url", "http://127.0.0.1:1", "--json")
    assert ran.code == 1
    [one] = ran.json()["orders"]
    assert (one["single"], one["batched"], one["passed"]) == ("not_sent", "not_sent", False)


def test_what_the_host_says_is_shown_without_personal_values() -> None:
    """A message may quote what it complains of."""
    document: dict[str, Any] = {
        "order_id": "A-1",
        "customer_email": "jane@example.com",
        "customer_shipping_address": {"city": "Bonn", "zip": "53111"},
        "currency": "EUR",
    }
    said = "jane@example.com of Bonn, 53111: not an address; EUR is fine in A-1"
    assert unpersonal(said, document) == "*** of ***, ***: not an address; EUR is fine in A-1"
