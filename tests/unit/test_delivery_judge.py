"""What becomes of a due order: a row of the table each."""

from __future__ import annotations

from dataclasses import replace

import pytest

from daemon.delivery.judge import Fault, Post, Rules, Void, judge, posted
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
from daemon.mapping.model import OnGone
from daemon.state.delivery_records import DueOrder, Hold, Judgement

RULES = Rules("Cancelled", OnGone.KEEP, OnGone.VOID, recheck_secs=30.0, waiting_max_secs=3600.0)
NEW = DueOrder("1", 0, 3, 0.0)
SENT = replace(NEW, ever_attempted=True, vendor_order_id="A-1", digest=b"old")
DOCUMENT = Document("A-1", b"{}", b"new", 0.0, zero=False)


def test_new_document_is_posted() -> None:
    """A document that is not what the API has is sent."""
    assert judge(NEW, Ready(DOCUMENT), RULES) == Post(DOCUMENT)
    assert judge(SENT, Ready(DOCUMENT), RULES) == Post(DOCUMENT)


def test_document_that_the_api_has_is_not_posted() -> None:
    """Equal digests settle the order without a request."""
    assert judge(replace(SENT, digest=b"new"), Ready(DOCUMENT), RULES) == Judgement("1", 3, settle=True, zero=False)


def test_document_is_posted_while_anything_is_in_doubt() -> None:
    """Without a trusted digest the same document goes out again."""
    assert judge(replace(SENT, digest=None), Ready(DOCUMENT), RULES) == Post(DOCUMENT)


def test_id_of_a_sent_order_is_pinned() -> None:
    """An order that may be at the API under one id is never sent under another; one never sent may change it."""
    other = Document("B-1", b"{}", b"new", 0.0, zero=False)
    assert isinstance(judge(SENT, Ready(other), RULES), Fault)
    assert judge(replace(SENT, ever_attempted=False), Ready(other), RULES) == Post(other)


@pytest.mark.parametrize(
    ("outcome", "rules", "expected"),
    [
        (Voided("Tag"), RULES, Void("Tag")),
        (Deleted(), RULES, Hold.DELETED),
        (Deleted(), replace(RULES, on_delete=OnGone.VOID), Void("Cancelled")),
        (Ineligible(), RULES, Void("Cancelled")),
        (Ineligible(), replace(RULES, on_leave=OnGone.KEEP), Hold.HELD),
    ],
)
def test_sent_order_that_is_gone_is_zeroed_or_kept_as_the_mapping_says(
    outcome: Outcome, rules: Rules, expected: Void | Hold
) -> None:
    """The mapping decides what becomes of what the API may have."""
    verdict = judge(SENT, outcome, rules)
    if isinstance(expected, Void):
        assert verdict == expected
    else:
        assert isinstance(verdict, Judgement)
        assert (verdict.settle, verdict.hold) == (True, expected)


@pytest.mark.parametrize("outcome", [Voided("Tag"), Deleted(), Ineligible()])
def test_order_that_was_never_attempted_is_not_zeroed(outcome: Outcome) -> None:
    """What the API cannot have heard of is settled here."""
    verdict = judge(NEW, outcome, replace(RULES, on_delete=OnGone.VOID))
    assert isinstance(verdict, Judgement)
    assert verdict.settle
    assert verdict.hold in (Hold.HELD, Hold.DELETED, Hold.VOID)


def test_attempt_without_an_acceptance_is_zeroed_too() -> None:
    """`ever attempted` decides, not `ever accepted`: an unanswered request may have arrived."""
    attempted = replace(NEW, ever_attempted=True, digest=None)
    assert judge(attempted, Voided("Tag"), RULES) == Void("Tag")


def test_missing_part_is_waited_for_until_patience_ends() -> None:
    """Waiting always has a re-check time and an end."""
    outcome = Waiting(WaitingReason.ABSENT_ROW, "customers 7")
    verdict = judge(NEW, outcome, RULES)
    assert isinstance(verdict, Judgement)
    assert (verdict.settle, verdict.hold, verdict.recheck_secs) == (False, Hold.WAITING, 30.0)
    assert verdict.detail == "absent_row: customers 7"
    assert judge(replace(NEW, waited_secs=3600.0), outcome, RULES) == Fault("waiting_absent_row", "customers 7")


def test_order_that_cannot_be_a_document_is_at_fault() -> None:
    """Every problem is told, up to a length that fits a record."""
    assert judge(NEW, Invalid(("a", "b")), RULES) == Fault("invalid", "a; b")
    fault = judge(NEW, Invalid(("x" * 5000,)), RULES)
    assert isinstance(fault, Fault)
    assert len(fault.problems) == 1000


def test_zeroed_order_is_zeroed_once() -> None:
    """A void that the API has already costs no request."""
    assert posted(SENT, DOCUMENT, void=True) == Post(DOCUMENT, void=True)
    kept = Judgement("1", 3, settle=True, hold=Hold.VOID, zero=False)
    assert posted(replace(SENT, digest=b"new"), DOCUMENT, void=True) == kept


def test_an_id_that_no_index_holds_is_the_orders_own_fault() -> None:
    """It is quarantined before anything is written or sent."""
    verdict = judge(NEW, Ready(Document("x" * 5000, b"{}", b"d", 0.0, zero=False)), RULES)
    assert isinstance(verdict, Fault)
    assert verdict.reason == "invalid"


def test_an_id_that_postgres_cannot_store_is_the_orders_own_fault() -> None:
    """U+0000 in one order's id holds up nobody else: it never comes to a statement that Postgres refuses."""
    document = Document("A\x001", b"{}", b"d", 0.0, zero=False)
    verdict = posted(DueOrder("1", 0, 1, 0.0), document)
    assert isinstance(verdict, Fault)
    assert "U+0000" in verdict.problems
