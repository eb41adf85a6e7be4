"""What becomes of one due order, given what its rows come to. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TypeAlias, assert_never

from daemon.document.order import clearing_document
from daemon.document.outcome import Deleted, Document, Ineligible, Invalid, Outcome, Ready, Voided, Waiting
from daemon.mapping.model import Mapping, OnGone
from daemon.settings import Delivery
from daemon.state.delivery_records import DueOrder, Hold, Judgement

MAX_DETAIL = 1000
MAX_ID_BYTES = 1000  # what an index of the state holds with room to spare; the API states no limit


@dataclass(frozen=True, slots=True)
class Rules:
    """What the mapping says about orders that are gone, and how long a missing part is waited for."""

    void_tag: str
    on_delete: OnGone
    on_leave: OnGone
    recheck_secs: float
    waiting_max_secs: float

    @classmethod
    def of(cls, mapping: Mapping, settings: Delivery) -> Rules:
        """The rules of a mapping."""
        return cls(
            mapping.void_tag,
            mapping.on_delete,
            mapping.on_leave,
            settings.waiting_recheck_secs,
            settings.waiting_max_secs,
        )

    def patience_ended(self, order: DueOrder) -> bool:
        """Whether a part that is still missing now counts as missing for good."""
        return order.waited_secs >= self.waiting_max_secs


@dataclass(frozen=True, slots=True)
class Post:
    """Send this document. `void`: it zeroes an order that is gone. `clears`: it is a PATCH, and no document."""

    document: Document
    void: bool = False
    clears: bool = False


@dataclass(frozen=True, slots=True)
class Void:
    """Zero what was last sent, under this tag."""

    tag: str


@dataclass(frozen=True, slots=True)
class Fault:
    """The order's own fault. `reason` is from a closed set, `problems` name places, never values."""

    reason: str
    problems: str


Next: TypeAlias = Post | Void | Judgement | Fault


def judge(order: DueOrder, outcome: Outcome, rules: Rules) -> Next:
    """What to do about `order`, whose rows were read after it and came to `outcome`."""
    match outcome:
        case Ready(document=document):
            return posted(order, document)
        case Voided(tag=tag):
            return Void(tag) if order.ever_attempted else settled(order, Hold.VOID, "before it was ever sent")
        case Deleted():
            if order.ever_attempted and rules.on_delete is OnGone.VOID:
                return Void(rules.void_tag)
            return settled(order, Hold.DELETED)
        case Ineligible(reason=reason):
            # Never sent, or zeroed already: there is nothing at the API to leave or to keep.
            if order.ever_attempted and rules.on_leave is OnGone.VOID:
                return Void(rules.void_tag)
            return settled(order, Hold.HELD, reason)
        case Waiting(reason=reason, detail=detail):
            if rules.patience_ended(order):
                return Fault(f"waiting_{reason.value}", detail)
            return Judgement(
                order.key,
                order.revision,
                hold=Hold.WAITING,
                detail=f"{reason.value}: {detail}"[:MAX_DETAIL],
                recheck_secs=rules.recheck_secs,
            )
        case Invalid(problems=problems):
            return Fault("invalid", "; ".join(problems)[:MAX_DETAIL])
    assert_never(outcome)


def posted(order: DueOrder, document: Document, *, void: bool = False) -> Next:
    """Send the document; where it is what the API has, the PATCH that is asked for, or nothing."""
    if len(document.order_id.encode()) > MAX_ID_BYTES:
        return Fault(
            "invalid", f"order_id: is longer than {MAX_ID_BYTES} bytes; map a column that identifies the order"
        )
    if "\x00" in document.order_id:
        return Fault(
            "invalid", "order_id: holds U+0000, which Postgres cannot store; map a column that identifies the order"
        )
    if order.ever_attempted and order.vendor_order_id not in (None, document.order_id):
        return Fault(
            "vendor_id_changed", "the order's id at the API changed after it was sent; it must stay what it was"
        )
    if order.digest is not None and order.digest == document.digest:
        if order.clear:
            return Post(clearing_document(document, order.clear), void, clears=True)
        return replace(settled(order, Hold.VOID if void else None), zero=document.zero)
    return Post(document, void)


def settled(order: DueOrder, hold: Hold | None = None, detail: str | None = None) -> Judgement:
    """Nothing is owed at this revision."""
    return Judgement(order.key, order.revision, settle=True, hold=hold, detail=detail)
