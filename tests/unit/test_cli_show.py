"""What holds an order, told from its record; and what assembling came to, in words."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from daemon.cli.show import described, holding
from daemon.document.outcome import (
    Deleted,
    Document,
    Ineligible,
    Invalid,
    Outcome,
    Ready,
    Voided,
    Waiting,
    WaitingReason,
)

NOW = datetime(2026, 3, 1, 8, 0, 0, tzinfo=UTC)
LATER = NOW + timedelta(minutes=2)
GUARDED = "it would go to 0 beyond max_voids_per_hour; `order-sync guard release` or `discard` decides"
OWED: dict[str, Any] = {
    "now": NOW,
    "revision": 2,
    "settled_revision": 1,
    "hold": None,
    "hold_detail": None,
    "hold_since": None,
    "parked_revision": None,
    "quarantine_revision": None,
    "quarantine_reason": None,
    "quarantined_at": None,
    "request_id": None,
    "sent_revision": None,
    "halted_reason": None,
    "paused": False,
    "due_at": NOW,
    "not_before": None,
    "destination_not_before": None,
}


@pytest.mark.parametrize(
    ("record", "said"),
    [
        ({}, []),
        ({"settled_revision": 2, "due_at": LATER}, ["nothing is owed: revision 2 is settled"]),
        (
            {"settled_revision": 2, "hold": "held", "hold_since": NOW},
            ["nothing is owed: revision 2 is settled", "held since 2026-03-01 08:00:00Z"],
        ),
        ({"hold": "held", "hold_since": NOW}, []),
        (
            {"hold": "waiting", "hold_detail": "customers 3", "hold_since": NOW},
            ["waiting since 2026-03-01 08:00:00Z: customers 3"],
        ),
        (
            {"quarantine_revision": 2, "quarantine_reason": "400", "quarantined_at": NOW},
            ["quarantined since 2026-03-01 08:00:00Z until its rows or the mapping change: 400"],
        ),
        ({"quarantine_revision": 1, "quarantine_reason": "400"}, []),
        (
            {"parked_revision": 2, "hold": "guarded", "hold_since": NOW},
            [f"parked since 2026-03-01 08:00:00Z: {GUARDED}"],
        ),
        ({"parked_revision": 1, "hold": "guarded", "hold_since": NOW}, []),
        (
            {"settled_revision": 2, "parked_revision": 2, "hold": "discarded", "hold_since": NOW},
            ["nothing is owed: revision 2 is settled", "discarded since 2026-03-01 08:00:00Z"],
        ),
        ({"request_id": 9, "sent_revision": 2}, ["in flight: request 9 carries revision 2"]),
        ({"halted_reason": "401"}, ["the destination is halted: 401"]),
        ({"paused": True}, ["the destination is paused"]),
        ({"due_at": LATER}, ["until 2026-03-01 08:02:00Z, when its quiet period or maximum wait ends"]),
        (
            {"not_before": LATER},
            ["until 2026-03-01 08:02:00Z, when a back-off, a fence or the gap after the last send ends"],
        ),
        ({"destination_not_before": LATER}, ["until 2026-03-01 08:02:00Z, when the destination may send again"]),
    ],
)
def test_every_hold_is_named_with_its_end(record: dict[str, Any], said: list[str]) -> None:
    """Each reason why an order is not sent now; a hold of an earlier judgement is none."""
    assert list(holding(OWED | record)) == said


@pytest.mark.parametrize(
    ("outcome", "said"),
    [
        (Ready(Document("A", b'{"order_id":"A"}', b"", 0.0, zero=False), ("a", "a")), "ready, 16 bytes; noted: a"),
        (Voided("Cancelled"), "cancelled: "),
        (Ineligible(), "no order for the API: `when` of the mapping is false"),
        (Deleted(), "deleted in the OMS"),
        (Waiting(WaitingReason.NO_ROOT, "orders 7"), "waiting: no_root: orders 7"),
        (Invalid(("a", "b")), "invalid: a; b"),
    ],
)
def test_every_outcome_has_words(outcome: Outcome, said: str) -> None:
    """Only a ready order has a document."""
    text, document = described(outcome)
    assert text.startswith(said)
    assert (document is not None) == isinstance(outcome, Ready)
