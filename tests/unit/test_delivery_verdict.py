"""From answers to verdicts: the table of design, and every error envelope seen or documented."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.delivery.verdict import Answer, Kind, Trouble, Verdict, verdict_of

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def verdict(status: int, body: object = b"", **headers: str) -> Verdict:
    """The verdict on an answer whose body is bytes, or else JSON."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return verdict_of(Answer(status, {name.replace("_", "-"): value for name, value in headers.items()}, raw), NOW)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (200, Kind.ACCEPTED),
        (202, Kind.ACCEPTED),
        (204, Kind.ACCEPTED),
        (301, Kind.REFUSED),
        (307, Kind.REFUSED),
        (400, Kind.REJECTED),
        (401, Kind.REFUSED),
        (403, Kind.REFUSED),
        (404, Kind.REFUSED),
        (405, Kind.REFUSED),
        (408, Kind.UNKNOWN),
        (413, Kind.TOO_LARGE),
        (415, Kind.REFUSED),
        (422, Kind.REJECTED),
        (429, Kind.LIMITED),
        (500, Kind.UNKNOWN),
        (502, Kind.UNKNOWN),
        (503, Kind.UNKNOWN),
        (599, Kind.UNKNOWN),
    ],
)
def test_status_decides_the_kind(status: int, kind: Kind) -> None:
    """Each status has one verdict; a 5xx is never taken for `not applied`."""
    assert verdict(status).kind is kind


@pytest.mark.parametrize(
    ("trouble", "kind"),
    [(Trouble.NOT_SENT, Kind.NOT_SENT), (Trouble.TIMED_OUT, Kind.UNKNOWN), (Trouble.CUT, Kind.UNKNOWN)],
)
def test_only_what_never_began_is_known_not_sent(trouble: Trouble, kind: Kind) -> None:
    """Anything after the first byte has an unknown outcome."""
    assert verdict_of(Answer(trouble=trouble, detail="x"), NOW).kind is kind


LISTED = [{"order_id": "A1", "message": "bad tax", "json_path": "$[3].tax"}]

NAMING: dict[str, Any] = {
    "response is a JSON string of a list": {"status": "400", "response": json.dumps(LISTED)},
    "response is the list": {"status": "error", "response": LISTED},
    "the whole body is a JSON string": json.dumps({"status": "400", "response": json.dumps(LISTED)}),
    "a bare list": LISTED,
    "errors": {"errors": LISTED},
    "error holds a list": {"error": LISTED},
    "detail holds objects with ids": {"detail": LISTED},
    "one object": LISTED[0],
    "nested": {"error": {"errors": LISTED}},
}


@pytest.mark.parametrize("shape", NAMING)
def test_named_orders_are_found_in_every_envelope(shape: str) -> None:
    """Whatever wraps it, an entry with an order id names that order."""
    faults = verdict(400, NAMING[shape]).faults
    assert [fault.order_id for fault in faults] == ["A1"]
    assert "bad tax" in faults[0].message


UNNAMING: dict[str, Any] = {
    "empty": b"",
    "not JSON": b"<html>400</html>",
    "a sentence": {"status": "400", "response": "Malformed JSON"},
    "an error sentence": {"error": "bad request"},
    "places without ids": {"detail": [{"loc": ["body", 3, "tax"], "msg": "Input should be a valid number"}]},
    "null ids": {"response": [{"order_id": None, "message": "Field required", "json_path": "$[0].order_id"}]},
    "truncated JSON": b'{"status":"400","response":"[{\\"order',
    "a number": 7,
    "null": None,
    "an echo of orders": [{"order_id": "A1", "customer_id": "c", "tax": 0}],
}


@pytest.mark.parametrize("shape", UNNAMING)
def test_nobody_is_named_by_places_or_sentences(shape: str) -> None:
    """List positions have no documented base, so they accuse nobody; neither does an echo of what was sent."""
    assert verdict(400, UNNAMING[shape]).faults == ()


def test_several_messages_about_one_order_are_one_fault() -> None:
    """An order is named once, with all that was said."""
    body = [{"order_id": 7, "message": "one"}, {"order_id": 7, "message": "two"}, {"order_id": "8", "message": "x"}]
    faults = verdict(400, body).faults
    assert [(fault.order_id, fault.message) for fault in faults] == [("7", "one; two"), ("8", "x")]


def test_success_with_a_list_of_errors_names_those() -> None:
    """A 2xx whose body lists errors is a refusal of the listed orders alone."""
    listed = verdict(200, {"message": "Orders received", "errors": LISTED})
    assert listed.kind is Kind.ACCEPTED
    assert [fault.order_id for fault in listed.faults] == ["A1"]
    assert verdict(200, {"message": "Orders received"}).faults == ()


@pytest.mark.parametrize(
    ("headers", "body", "secs"),
    [
        ({}, b"", None),
        ({"retry_after": "12"}, b"", 12.0),
        ({"retry_after": "1.5"}, b"", 1.5),
        ({}, {"error": "rate_limit_error", "retry_after_seconds": 37}, 37.0),
        ({"retry_after": "12"}, {"retry_after_seconds": 37}, 37.0),
        ({"retry_after": "50"}, {"retry_after_seconds": 37}, 50.0),
        ({"retry_after": "Sun, 01 Mar 2026 12:00:30 GMT"}, b"", 30.0),
        ({"retry_after": "Sun, 01 Mar 2026 11:00:00 GMT"}, b"", 0.0),
        ({"retry_after": "-5"}, b"", 0.0),
        ({"retry_after": "soon"}, b"", None),
        ({"retry_after": "nan"}, b"", None),
        ({"retry_after": "999999"}, b"", 3600.0),
        ({}, {"retry_after_seconds": True}, None),
    ],
)
def test_pause_is_the_longest_asked_for(headers: dict[str, str], body: object, secs: float | None) -> None:
    """Header and body may both ask; nonsense asks for nothing, and nobody is believed beyond an hour."""
    assert verdict(429, body, **headers).pause_secs == secs


def test_equal_failures_have_equal_causes() -> None:
    """A time-out, a cut and each status are told apart, so that blame counts equal failures only."""
    causes = {
        verdict(500).cause,
        verdict(503).cause,
        verdict_of(Answer(trouble=Trouble.TIMED_OUT), NOW).cause,
        verdict_of(Answer(trouble=Trouble.CUT), NOW).cause,
    }
    assert len(causes) == 4


@given(st.integers(100, 599), st.binary(max_size=200))
def test_no_body_breaks_the_table(status: int, body: bytes) -> None:
    """Any bytes make a verdict."""
    assert verdict(status, body).kind in Kind


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["order_id", "response", "detail", "errors", "error", "message", "retry_after_seconds"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=20,
)


@given(st.sampled_from([200, 400, 429, 500]), JSON)
def test_no_envelope_breaks_the_table(status: int, body: Any) -> None:
    """Any JSON makes a verdict, with texts of bounded length."""
    made = verdict(status, body)
    assert len(made.detail) <= 300
    assert all(len(fault.message) <= 300 for fault in made.faults)


@pytest.mark.parametrize(
    ("status", "body", "headers"),
    [
        (400, b"[" * 1000 + b"]" * 1000, {}),
        (
            400,
            json.dumps({"error": {"error": {"error": {"error": {"error": {"error": {"error": "deep"}}}}}}}).encode(),
            {},
        ),
        (400, b'{"order_id": "A-1", "message": "bad\\u0000name"}', {}),
        (429, b"", {"retry_after": "Mon, 01 Jan 99999999999999999999 00:00:00 GMT"}),
        (429, b'{"retry_after_seconds": 1e999}', {"retry_after": "9" * 400}),
        (500, bytes(range(256)), {}),
    ],
)
def test_no_answer_is_too_strange_for_a_verdict(status: int, body: bytes, headers: dict[str, str]) -> None:
    """Depth, NULs, absurd dates and numbers change nothing about what the status says."""
    expected = {400: Kind.REJECTED, 429: Kind.LIMITED, 500: Kind.UNKNOWN}[status]
    assert verdict(status, body, **headers).kind is expected


def test_an_accepted_order_that_is_merely_mentioned_is_accepted() -> None:
    """In a 2xx a message alone is no complaint; an error, a code or a place is."""
    assert verdict(200, [{"order_id": "A-1", "message": "queued"}]).faults == ()
    for mark in ({"code": "invalid"}, {"error": "no"}, {"json_path": "$[0].tax"}):
        [fault] = verdict(200, [{"order_id": "A-1", "message": "bad", **mark}]).faults
        assert fault.order_id == "A-1"
