"""The sandbox over real HTTP."""

import dataclasses
import json
import re
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest

from daemon.errors import SettingsError
from daemon.sandbox.client import SandboxAdmin, SandboxError
from daemon.sandbox.faults import Fault, Match
from daemon.sandbox.options import DEFAULT_CLIENT_ID, DEFAULT_KEY, ApiKey, SandboxOptions
from daemon.sandbox.scenario import load_scenario
from daemon.sandbox.server import SandboxServer

HEADERS = {"Authorization": DEFAULT_KEY, "Data-Client-ID": DEFAULT_CLIENT_ID, "Content-Type": "application/json"}
NOON = 1_709_294_400.0


class ManualClock:
    """Stands still until told otherwise."""

    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> float:
        return self.now


class Rig:
    """A running sandbox, its admin client, and a client with good credentials."""

    def __init__(self, options: SandboxOptions) -> None:
        self.clock = ManualClock()
        self.server = SandboxServer(options, clock=self.clock)
        self.server.start()
        self.admin = SandboxAdmin(self.server.url)
        self.api = httpx.Client(base_url=self.server.url, headers=HEADERS, timeout=30, trust_env=False)

    def close(self) -> None:
        self.api.close()
        self.admin.close()
        self.server.stop()

    def post(self, *orders: Any, **headers: str) -> httpx.Response:
        return self.api.post("/v2/orders", content=json.dumps(orders), headers=headers)

    def totals(self, order_id: str) -> list[Decimal]:
        return [version.document["purchase_total"] for version in self.admin.versions(order_id)]


@pytest.fixture
def make() -> Iterator[Callable[..., Rig]]:
    """Sandboxes with the switches given, ended with the test."""
    rigs: list[Rig] = []

    def made(**switches: Any) -> Rig:
        rigs.append(Rig(SandboxOptions(**switches)))
        return rigs[-1]

    yield made
    for rig in rigs:
        rig.close()


@pytest.fixture
def rig(make: Callable[..., Rig]) -> Rig:
    return make()


@pytest.fixture
def background() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(8) as pool:
        yield pool


def order(order_id: str = "A-1", total: float = 16.5, **changes: Any) -> dict[str, Any]:
    return {
        "order_id": order_id,
        "customer_id": "C-1",
        "time_of_purchase": "2024-03-01T10:00:00Z",
        "currency": "USD",
        "purchase_total": total,
        "tax": 1,
        "shipping_cost": 0,
        "products": [{"id": "P-1", "name": "Mug", "quantity": 2, "price": 7.75}],
    } | changes


BAD = order("bad", tax="1")


def test_an_accepted_order_is_kept_with_its_bytes_and_time(rig: Rig) -> None:
    """Every version is kept, the last one is what stands, and no digit is lost."""
    body = json.dumps([order("a/b ?é", total=1)], indent=1).replace('_total": 1', '_total": 1.10000000000000000000001')
    assert rig.api.post("/v2/orders", content=body).status_code == 200
    rig.clock.now += 5
    assert rig.post(order("a/b ?é", total=2.5)).status_code == 200
    first, second = rig.admin.versions("a/b ?é")
    assert first.raw.decode() in body
    assert (first.at, second.at) == (NOON, NOON + 5)
    assert (first.number, second.number) == (1, 2)
    assert first.document["purchase_total"] == Decimal("1.10000000000000000000001")
    assert rig.admin.orders()["a/b ?é"]["purchase_total"] == Decimal("2.5")
    assert rig.admin.versions("unknown") == []


def test_old_versions_are_let_go_when_asked_to(make: Callable[..., Rig]) -> None:
    """With a bound on versions the newest stay, under their numbers."""
    rig = make(keep_versions=2)
    for total in (1.5, 2.5, 3.5):
        rig.post(order(total=total))
    assert [version.number for version in rig.admin.versions("A-1")] == [2, 3]
    assert rig.admin.stats()["accepted_orders"] == 3


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": "other"},
        {"Authorization": f"Bearer {DEFAULT_KEY}"},
        {"Authorization": ""},
        {"Data-Client-ID": "other"},
        {"Data-Client-ID": ""},
    ],
)
def test_wrong_credentials(rig: Rig, headers: dict[str, str]) -> None:
    """401, nothing is stored, and nothing counts against the key."""
    assert rig.post(order(), **headers).status_code == 401
    query = {"start_date": "2024-01-01", "end_date": "2025-01-01"}
    assert rig.api.get("/v2/orders", params=query, headers=headers).status_code == 401
    assert (rig.admin.orders(), rig.admin.stats()["bytes_in_window"]) == ({}, {})


def test_a_key_can_be_revoked_and_restored(rig: Rig) -> None:
    """Revoked means 401, forbidden 403, good lets in again; a new key brings its client id."""
    seen = []
    for state in ("revoked", "forbidden", "good"):
        rig.admin.key(DEFAULT_KEY, state)
        seen.append(rig.post(order()).status_code)
    assert seen == [401, 403, 200]
    rig.admin.key("second", client_id="other")
    assert rig.post(order(), Authorization="second", **{"Data-Client-ID": "other"}).status_code == 200
    with pytest.raises(SandboxError, match="client_id"):
        rig.admin.key("third")


def test_without_keys_any_pair_is_let_in_but_not_none(make: Callable[..., Rig]) -> None:
    """As the anonymous UAT: any credentials, but both."""
    rig = make(keys=())
    assert rig.post(order(), Authorization="None", **{"Data-Client-ID": "test"}).status_code == 200
    assert rig.post(order(), Authorization="").status_code == 401


def test_destinations_are_kept_apart(make: Callable[..., Rig]) -> None:
    """One order id under two client ids is two orders, and no shared flight."""
    rig = make(keys=(ApiKey(), ApiKey("k2", "c2")))
    rig.post(order(total=1.5))
    rig.post(order(total=2.5), Authorization="k2", **{"Data-Client-ID": "c2"})
    assert rig.admin.orders(DEFAULT_CLIENT_ID)["A-1"]["purchase_total"] == Decimal("1.5")
    assert rig.admin.orders("c2")["A-1"]["purchase_total"] == Decimal("2.5")
    assert len(rig.admin.versions("A-1")) == 2
    assert len(rig.admin.versions("A-1", "c2")) == 1


# a 400


def test_a_bad_order_sinks_its_batch_and_is_named(rig: Rig) -> None:
    """The documented envelope: `response` is a JSON string of order_id, message and json_path."""
    answer = rig.post(order(), BAD)
    assert answer.status_code == 400
    assert answer.json()["status"] == "400"
    assert json.loads(answer.json()["response"]) == [
        {"order_id": "bad", "message": "Input should be a valid number", "json_path": "$[1].tax"}
    ]
    assert rig.admin.orders() == {}


@pytest.mark.parametrize(("refusal", "status"), [("orders", 400), ("listed", 200)])
def test_the_other_readings_of_a_bad_order(make: Callable[..., Rig], refusal: str, status: int) -> None:
    """Only the bad orders are refused, by a 400 or by a 200 that lists them."""
    rig = make(refusal=refusal)
    answer = rig.post(order(), BAD, order("B-2"))
    assert answer.status_code == status
    assert [found["order_id"] for found in json.loads(answer.json()["response"])] == ["bad"]
    assert sorted(rig.admin.orders()) == ["A-1", "B-2"]
    assert rig.post(BAD).status_code == 400


@pytest.mark.parametrize(
    ("shape", "body"),
    [
        (
            "list",
            {
                "status": "400",
                "response": [{"order_id": "bad", "message": "Input should be a valid number", "json_path": "$.tax"}],
            },
        ),
        ("bare", [{"order_id": "bad", "message": "Input should be a valid number", "json_path": "$.tax"}]),
        (
            "detail",
            {"detail": [{"type": "value_error", "loc": ["body", 0, "tax"], "msg": "Input should be a valid number"}]},
        ),
        ("text", {"status": "400", "response": "Invalid input"}),
        ("error", {"error": "Invalid input"}),
        ("empty", None),
    ],
)
def test_the_other_shapes_of_a_400(rig: Rig, shape: str, body: Any) -> None:
    """Each shape that the pages describe or let one expect, by a switch thrown while it runs."""
    rig.admin.options(error_shape=shape, json_path_base="order")
    answer = rig.post(BAD)
    assert answer.status_code == 400
    assert (answer.json() if answer.content else None) == body


def test_a_batch_fault_is_a_400_without_orders(rig: Rig) -> None:
    """Malformed JSON has no message; a wrong content type and an empty batch have one."""
    malformed = rig.api.post("/v2/orders", content=b"[{]")
    assert (malformed.status_code, malformed.content) == (400, b"")
    assert rig.post().status_code == 400
    plain = rig.api.post("/v2/orders", content=json.dumps([order()]), headers={"Content-Type": "text/plain"})
    assert plain.status_code == 400
    assert rig.admin.orders() == {}


@pytest.mark.parametrize("status", [400, 413])
def test_too_many_orders(make: Callable[..., Rig], status: int) -> None:
    """Above the cap nothing is applied; which status that gives is a switch."""
    rig = make(max_orders=2, too_many_status=status)
    assert rig.post(order("a"), order("b"), order("c")).status_code == status
    assert rig.post(order("a"), order("b")).status_code == 200
    assert sorted(rig.admin.orders()) == ["a", "b"]


def test_unknown_paths_and_methods(rig: Rig) -> None:
    """There is no DELETE."""
    assert rig.api.request("DELETE", "/v2/orders").status_code == 405
    assert rig.api.put("/v2/orders").status_code == 405
    assert rig.api.post("/v3/orders").status_code == 404


# PATCH


def patch(rig: Rig, *patches: dict[str, Any]) -> httpx.Response:
    """PATCH these."""
    return rig.api.patch("/v2/orders", json=list(patches))


def test_a_patch_changes_what_it_names(rig: Rig) -> None:
    """Null clears, a value replaces, what is not named stays; each change is a version."""
    customer = order("a")["customer_id"]
    assert rig.post({**order("a"), "customer_email": "a@example.com", "customer_name": "A", "tax": 1.10}).is_success
    told = patch(rig, {"order_id": "a", "customer_id": customer, "customer_email": None, "order_tags": ["x"]})
    assert (told.status_code, told.json()) == (200, {"message": "Orders received"})
    now = rig.admin.orders()["a"]
    assert "customer_email" not in now
    assert (now["customer_name"], now["order_tags"], now["tax"]) == ("A", ["x"], Decimal("1.10"))
    assert [one.number for one in rig.admin.versions("a")] == [1, 2]
    assert rig.admin.requests()[-1]["method"] == "PATCH"


@pytest.mark.parametrize(
    "wrong",
    [
        {"order_id": "b", "customer_id": "c"},
        {"order_id": "a", "customer_id": "somebody else"},
        {"order_id": "a", "customer_id": None},
        {"order_id": "a"},
        {"products": []},
        {"refunds": None},
        {"customer_email": "no address"},
    ],
)
def test_a_patch_is_applied_whole_or_not_at_all(rig: Rig, wrong: dict[str, Any]) -> None:
    """An order that is not there, or is another customer's, and what cannot be patched."""
    customer = order("a")["customer_id"]
    rig.post(order("a"))
    good = {"order_id": "a", "customer_id": customer}
    bad = wrong if "order_id" in wrong else good | wrong
    assert patch(rig, good | {"order_tags": ["x"]}, bad).status_code == 400
    assert "x" not in rig.admin.orders()["a"].get("order_tags", [])


def test_a_post_may_leave_what_it_does_not_name(make: Callable[..., Rig]) -> None:
    """The provider says neither that it does nor that it does not."""
    rig = make(post_merges=True)
    rig.post({**order("a"), "customer_name": "A"})
    rig.post(order("a"))
    assert rig.admin.orders()["a"]["customer_name"] == "A"


# sizes and the byte window


def test_a_body_above_the_size_is_a_413(make: Callable[..., Rig]) -> None:
    """The limit itself still passes; a larger body is read to its end and refused."""
    size = len(json.dumps([order()]))
    rig = make(max_body_bytes=size)
    assert rig.post(order()).status_code == 200
    assert rig.post(order(), order("B")).status_code == 413
    assert rig.api.post("/v2/orders", content=b" " * 3_000_000).status_code == 413
    assert sorted(rig.admin.orders()) == ["A-1"]


@pytest.mark.parametrize("early_secs", [10, 10.5])
def test_the_byte_window_slides(make: Callable[..., Rig], early_secs: float) -> None:
    """429 with the wait, in whole seconds, in header and body; after exactly that wait the same request fits."""
    size = len(json.dumps([order()]))
    rig = make(budget_bytes=2 * size, budget_window_secs=60)
    assert rig.post(order()).status_code == 200
    rig.clock.now += early_secs
    assert rig.post(order()).status_code == 200
    rig.clock.now += 10
    refused = rig.post(order("B-2"))
    assert refused.status_code == 429
    assert refused.headers["Retry-After"] == "40"
    assert refused.json() == {"error": "rate_limit_error", "retry_after_seconds": 40}
    assert rig.admin.stats()["bytes_in_window"] == {DEFAULT_CLIENT_ID: 2 * size}
    rig.clock.now += 39
    assert rig.post(order("B-2")).status_code == 429
    rig.clock.now += 1
    assert rig.post(order("B-2")).status_code == 200
    stats = rig.admin.stats()
    assert (stats["budget_violations"], stats["peak_bytes_in_window"]) == (2, 2 * size)
    assert sorted(rig.admin.orders()) == ["A-1", "B-2"]


def test_refused_and_cut_requests_count_in_the_window(rig: Rig) -> None:
    """Bytes count on arrival, whatever becomes of them; those of a 413 count too, as they were sent."""
    rig.admin.fault("drop_before")
    with pytest.raises(httpx.TransportError):
        rig.post(order())
    rig.post(BAD)
    rig.admin.options(max_body_bytes=10)
    assert rig.post(order()).status_code == 413
    sent = 2 * len(json.dumps([order()])) + len(json.dumps([BAD]))
    assert rig.admin.stats()["bytes_in_window"] == {DEFAULT_CLIENT_ID: sent}


# faults


def test_a_status_fault_applies_nothing_unless_told(rig: Rig) -> None:
    """The status, body and headers asked for; a 5xx can also be one whose orders were applied."""
    rig.admin.fault("status", status=503, body="busy", headers={"X-Why": "test"})
    rig.admin.fault("status", status=500, applied=True)
    first = rig.post(order("a"))
    assert (first.status_code, first.text, first.headers["X-Why"]) == (503, "busy", "test")
    assert rig.post(order("b")).status_code == 500
    assert rig.post(order("c")).status_code == 200
    assert sorted(rig.admin.orders()) == ["b", "c"]
    assert rig.admin.stats()["faults_fired"] == {"status": 2}


def test_faults_match_by_order_count_and_turn(rig: Rig) -> None:
    """A poison order fails for ever; others only while they are with it; `nth` lets earlier requests pass."""
    rig.admin.fault("status", status=500, order_id="poison", count=None)
    rig.admin.fault("status", status=502, order_id="A-1", nth=2, count=2)
    statuses = [rig.post(order()).status_code for _ in range(4)]
    assert statuses == [200, 502, 502, 200]
    assert [rig.post(order("poison")).status_code for _ in range(3)] == [500] * 3
    assert rig.post(order("poison"), order("x")).status_code == 500
    assert rig.admin.stats()["faults_queued"] == 1
    rig.admin.clear_faults()
    assert rig.post(order("poison")).status_code == 200


def test_faults_can_be_queued_from_the_start(make: Callable[..., Rig]) -> None:
    """Faults are part of the options too."""
    rig = make(faults=(Fault(action="status", status=504, match=Match(nth=2)),))
    assert [rig.post(order()).status_code for _ in range(3)] == [200, 504, 200]


@pytest.mark.parametrize("reset", [True, False])
@pytest.mark.parametrize(("action", "applied"), [("drop_after", ["A-1"]), ("drop_before", [])])
def test_a_lost_answer_is_a_cut_connection(rig: Rig, action: Any, applied: list[str], reset: bool) -> None:
    """Not one byte of an answer; after `drop_after` the order is applied all the same."""
    rig.admin.fault(action, reset=reset)
    with pytest.raises(httpx.ReadError if reset else httpx.RemoteProtocolError):
        rig.post(order())
    assert sorted(rig.admin.orders()) == applied
    stats = rig.admin.stats()
    assert (stats["statuses"], stats["in_flight"]) == ({"cut": 1}, 0)
    assert rig.post(order()).status_code == 200


def test_a_cut_connection_carries_no_bytes(rig: Rig) -> None:
    """Seen from a bare socket: the end of the stream is all there is."""
    rig.admin.fault("drop_after", reset=False)
    body = json.dumps([order()]).encode()
    head = "".join(f"{name}: {value}\r\n" for name, value in HEADERS.items())
    url = httpx.URL(rig.server.url)
    with socket.create_connection((url.host, url.port), timeout=10) as raw:
        raw.sendall(f"POST /v2/orders HTTP/1.1\r\nHost: x\r\n{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        assert raw.recv(1000) == b""
    assert rig.admin.stats()["orders"] == 1


@pytest.mark.parametrize("applied", [True, False])
def test_a_held_request_lets_others_pass(rig: Rig, background: ThreadPoolExecutor, applied: bool) -> None:
    """A delay holds one request only: before it is applied, or with `applied` only its answer."""
    rig.admin.fault("delay", order_id="slow", applied=applied)
    slow = background.submit(rig.post, order("slow"))
    rig.admin.wait("held")
    assert rig.post(order("fast")).status_code == 200
    assert sorted(rig.admin.orders()) == (["fast", "slow"] if applied else ["fast"])
    assert not slow.done()
    assert rig.admin.release() == 1
    assert slow.result(10).status_code == 200
    assert sorted(rig.admin.orders()) == ["fast", "slow"]


def test_a_delay_of_so_many_seconds_ends_by_itself(rig: Rig) -> None:
    """Without a release, after its time."""
    rig.admin.fault("delay", seconds=0.05)
    assert rig.post(order()).status_code == 200
    assert rig.admin.stats()["faults_fired"] == {"delay": 1}


def test_a_sender_that_gives_up_does_not_stop_the_request(rig: Rig) -> None:
    """A time-out ends the flight as the sender sees it; what was read is still applied, later."""
    rig.admin.fault("delay")
    with pytest.raises(httpx.ReadTimeout):
        rig.api.post("/v2/orders", content=json.dumps([order()]), timeout=0.2)
    rig.admin.wait("held")
    with pytest.raises(TimeoutError):
        rig.admin.wait("applied_requests", timeout_secs=0.01)
    rig.admin.release()
    rig.admin.wait("applied_requests")
    assert sorted(rig.admin.orders()) == ["A-1"]
    stats = rig.admin.stats()
    assert (stats["statuses"], stats["in_flight"]) == ({"cut": 1}, 0)


@pytest.mark.parametrize("status", [None, 503])
def test_applied_late_overwrites_what_came_between(rig: Rig, status: int | None) -> None:
    """The cut or refused request lands after a newer one: the stale document stands."""
    rig.admin.fault("apply_late", status=status)
    if status is None:
        with pytest.raises(httpx.TransportError):
            rig.post(order(total=1.5))
    else:
        assert rig.post(order(total=1.5)).status_code == status
    rig.admin.wait("held")
    assert rig.post(order(total=2.5)).status_code == 200
    rig.admin.release()
    rig.admin.wait("late_applied")
    assert rig.totals("A-1") == [Decimal("2.5"), Decimal("1.5")]
    assert rig.admin.stats()["shared_in_flight"] == 0


def test_two_requests_in_flight_that_share_an_order_are_counted(rig: Rig, background: ThreadPoolExecutor) -> None:
    """The count that proves single flight: it sees an overlap, and only an overlap."""
    rig.admin.fault("delay")
    first = background.submit(rig.post, order("a"), order("b"))
    rig.admin.wait("held")
    rig.post(order("c"))
    assert rig.admin.stats()["shared_in_flight"] == 0
    rig.post(order("b"))
    rig.admin.release()
    first.result(10)
    rig.post(order("b"))
    stats = rig.admin.stats()
    assert stats["shared_in_flight"] == 1
    assert (stats["most_in_flight"], stats["most_in_flight_of_one_order"], stats["in_flight"]) == (2, 2, 0)


def test_one_id_twice_in_a_request_is_counted(rig: Rig) -> None:
    """The contract allows it, the later one stands; a sender that promises one row per order can be checked."""
    assert rig.post(order(total=1.5), order(total=2.5)).status_code == 200
    assert rig.totals("A-1") == [Decimal("1.5"), Decimal("2.5")]
    assert rig.admin.stats()["repeated_in_request"] == 1


def test_back_to_back_sends_never_look_concurrent(rig: Rig, background: ThreadPoolExecutor) -> None:
    """Eight senders, each waiting for its answers: no overlap is ever reported."""

    def send(number: int) -> None:
        with httpx.Client(base_url=rig.server.url, headers=HEADERS, trust_env=False) as api:
            for _ in range(25):
                assert api.post("/v2/orders", content=json.dumps([order(str(number))])).status_code == 200

    for done in [background.submit(send, number) for number in range(8)]:
        done.result(60)
    stats = rig.admin.stats()
    assert (stats["accepted_orders"], stats["shared_in_flight"]) == (200, 0)


# GET


def get(rig: Rig, start: str, end: str) -> httpx.Response:
    return rig.api.get("/v2/orders", params={"start_date": start, "end_date": end})


def test_get_answers_by_day_of_purchase(rig: Rig) -> None:
    """The latest documents of the UTC days asked for, as they were sent; the last day counts, unless switched off."""
    rig.post(order("feb", time_of_purchase="2024-03-01T01:00:00+02:00"), order("mar", total=1.5))
    rig.post(order("mar", total=2.5))
    assert [found["order_id"] for found in get(rig, "2024-02-29", "2024-02-29").json()] == ["feb"]
    assert [found["purchase_total"] for found in get(rig, "2024-03-01", "2024-03-01").json()] == [2.5]
    rig.admin.options(get_end_inclusive=False)
    assert get(rig, "2024-03-01", "2024-03-01").json() == []
    assert len(get(rig, "2024-02-29", "2024-03-02").json()) == 2


@pytest.mark.parametrize(("start", "end"), [("", "2024-01-01"), ("2024-1-1", "2024-01-02"), ("2024-01-01", "tomorrow")])
def test_get_needs_both_days(rig: Rig, start: str, end: str) -> None:
    """Both are required, in one form."""
    assert get(rig, start, end).status_code == 400
    assert rig.api.get("/v2/orders", params={"start_date": "2024-01-01"}).status_code == 400


def test_get_with_its_quirks(make: Callable[..., Rig]) -> None:
    """A JSON string that holds the JSON, and three attributes that nobody sent."""
    rig = make(get_as_string=True, get_extra_fields=True)
    rig.post(order(total=1.5))
    (found,) = json.loads(get(rig, "2024-01-01", "2025-01-01").json())
    extra = {name: found.pop(name) for name in ("is_cancelled", "is_deleted", "updated_at")}
    assert found == order(total=1.5)
    assert extra == {"is_cancelled": False, "is_deleted": False, "updated_at": "2024-03-01T12:00:00+00:00"}


def test_get_can_leave_days_out(rig: Rig) -> None:
    """Ranges came back empty in the wild, though orders were there."""
    rig.post(order("A-1"), order("A-2", time_of_purchase="2024-03-02T10:00:00Z"))
    rig.admin.options(get_hidden_days=["2024-03-01"])
    days = {"start_date": "2024-03-01", "end_date": "2024-03-02"}
    assert [found["order_id"] for found in rig.api.get("/v2/orders", params=days).json()] == ["A-2"]
    rig.admin.options(get_hidden_days=[])
    assert len(rig.api.get("/v2/orders", params=days).json()) == 2


def test_an_order_can_be_forgotten(make: Callable[..., Rig]) -> None:
    """As if it had never come; under one client id alone, where that is named."""
    rig = make(keys=(ApiKey(), ApiKey("two", "second")))
    rig.post(order("a/b"), order("A-2"))
    rig.post(order("a/b"), **{"Authorization": "two", "Data-Client-ID": "second"})
    assert rig.admin.forget("a/b", "second") == 1
    assert set(rig.admin.orders(DEFAULT_CLIENT_ID)) == {"a/b", "A-2"}
    assert rig.admin.forget("a/b") == 1
    assert (rig.admin.forget("a/b"), rig.admin.versions("a/b")) == (0, [])


SCENARIO = """
budget_bytes: 1500000
budget_window_secs: 3
get_hidden_days: [2024-03-01]
faults:
  - {action: status, status: 503, match: {nth: 2}}
"""


@pytest.mark.parametrize("as_json", [False, True])
def test_a_scenario_file_holds_switches_and_faults(make: Callable[..., Rig], tmp_path: Path, as_json: bool) -> None:
    """YAML or JSON; keys that the file does not name are those of the command line."""
    path = tmp_path / "scenario"
    path.write_text(
        SCENARIO
        if not as_json
        else '{"budget_bytes": 1500000, "budget_window_secs": 3, "get_hidden_days": ["2024-03-01"],'
        ' "faults": [{"action": "status", "status": 503, "match": {"nth": 2}}]}'
    )
    options = load_scenario(path, ApiKey())
    assert (options.budget_bytes, options.budget_window_secs, options.keys) == (1_500_000, 3, (ApiKey(),))
    assert options.get_hidden_days == (date(2024, 3, 1),)
    rig = make(**{field.name: getattr(options, field.name) for field in dataclasses.fields(options)})
    assert [rig.post(order()).status_code for _ in range(3)] == [200, 503, 200]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("budget: 5", "budget"),
        ("budget_bytes: 0", "budget_bytes: Input should be greater than or equal to 1"),
        ("faults: [{action: status}]", "faults.0: Value error, action `status` needs a `status`"),
        ("faults: [{action: dance}]", "faults.0.action"),
        ("- a", "must be a table of switches, see config/sandbox.yaml"),
        ("a: [", "is no YAML"),
        (None, "cannot be read"),
    ],
)
def test_a_wrong_scenario_says_what_is_wrong(tmp_path: Path, text: str | None, says: str) -> None:
    """The file, the switch or fault, and where all of them are shown."""
    path = tmp_path / "scenario.yaml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(SettingsError, match=re.escape(says)) as caught:
        load_scenario(path, ApiKey())
    assert str(caught.value).startswith(f"{path}: ")


def test_get_can_be_told_to_fail(rig: Rig) -> None:
    """Faults of GET leave POST alone."""
    rig.admin.fault("status", status=200, body="[]", method="GET")
    assert rig.post(order()).status_code == 200
    assert get(rig, "2024-01-01", "2025-01-01").json() == []
    assert len(get(rig, "2024-01-01", "2025-01-01").json()) == 1


# steering


def test_flip_changes_one_attribute_of_one_order(rig: Rig) -> None:
    """One stored document differs from what was sent, in one attribute; the answer says which."""
    text = json.dumps([order("a"), order("b")]).replace("7.75", "7.750")
    rig.api.post("/v2/orders", content=text)
    assert rig.admin.flip() == {
        "client_id": DEFAULT_CLIENT_ID,
        "order_id": "a",
        "attribute": "purchase_total",
    }
    rig.admin.flip("b", "customer_id")
    held = rig.admin.orders()
    assert held["a"] == order("a", total=16.51) | {"purchase_total": Decimal("16.51")}
    assert held["b"] == order("b", customer_id="C-1x")
    assert all(b"7.750" in raw for raw in rig.admin.raw_orders())
    assert rig.admin.versions("a")[0].flipped == "purchase_total"
    with pytest.raises(SandboxError, match="no such order"):
        rig.admin.flip("c")
    with pytest.raises(SandboxError, match="products"):
        rig.admin.flip("a", "products")


def test_the_request_log_tells_what_became_of_each(make: Callable[..., Rig]) -> None:
    """Number, orders, problems, fault and outcome; the newest entries stay."""
    rig = make(keep_requests=2)
    rig.post(order())
    rig.post(order("x"), BAD)
    rig.admin.fault("drop_after")
    with pytest.raises(httpx.TransportError):
        rig.post(order())
    second, third = rig.admin.requests()
    assert (second["number"], second["order_ids"], second["problems"], second["status"]) == (2, ["x", "bad"], 1, 400)
    assert (third["number"], third["fault"], third["status"], third["ended_at"]) == (3, "drop_after", None, NOON)


@pytest.mark.parametrize(
    ("path", "body", "says"),
    [
        ("faults", {"action": "explode"}, "action"),
        ("faults", {"action": "status"}, "needs a `status`"),
        ("faults", {"action": "drop_after", "seconds": 1}, "takes no `seconds`"),
        ("faults", {"action": "delay", "status": 500}, "takes no `status`"),
        ("faults", [{"action": "delay", "match": {"nth": 0}}], "nth"),
        ("options", {"budget": 1}, "budget_bytes"),
        ("options", {"error_shape": "round"}, "error_shape"),
        ("options", {"budget_bytes": 0}, "budget_bytes"),
        ("options", [], "object"),
        ("keys", {"state": "good"}, "key"),
        ("flip", {"field": "tax"}, "field"),
    ],
)
def test_a_wrong_admin_request_says_what_is_wrong(rig: Rig, path: str, body: Any, says: str) -> None:
    """400 with a sentence, and nothing is changed."""
    answer = rig.api.post(f"/_sandbox/{path}", json=body)
    assert answer.status_code == 400
    assert says in answer.json()["error"]
    assert rig.post(order()).status_code == 200


def test_waiting_for_an_unknown_figure_is_refused(rig: Rig) -> None:
    """Rather than waiting for ever."""
    with pytest.raises(SandboxError, match="no figure"):
        rig.admin.wait("luck")


# the server


def test_a_stopped_server_refuses_and_comes_back_with_its_memory(rig: Rig) -> None:
    """The vendor down and up again: same port, same orders; stopping twice is no error."""
    rig.post(order())
    rig.server.stop()
    rig.server.stop()
    with pytest.raises(httpx.TransportError):
        rig.post(order("B"))
    rig.server.start()
    assert rig.post(order("C")).status_code == 200
    assert sorted(rig.admin.orders()) == ["A-1", "C"]


def test_stopping_cuts_what_is_held(rig: Rig, background: ThreadPoolExecutor) -> None:
    """A held request is neither answered nor applied, and its flight is over."""
    rig.admin.fault("apply_late")
    rig.admin.fault("delay", nth=2)
    with pytest.raises(httpx.TransportError):
        rig.post(order("late"))
    held = background.submit(rig.post, order())
    rig.admin.wait("held", 2)
    rig.server.stop()
    with pytest.raises(httpx.TransportError):
        held.result(10)
    rig.server.start()
    stats = rig.admin.stats()
    assert (stats["orders"], stats["in_flight"], stats["held"]) == (0, 0, 0)


def test_a_taken_port_is_an_error_of_start() -> None:
    """The caller hears of it, and no thread is left."""
    with SandboxServer() as running:
        port = httpx.URL(running.url).port
        assert port is not None
        threads = threading.active_count()
        with pytest.raises(OSError, match="in use"):
            SandboxServer(port=port).start()
        assert threading.active_count() == threads
