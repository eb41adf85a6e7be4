"""What a mapping would change at one destination, against what was last accepted: adds up judged orders. Pure."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from enum import StrEnum

from daemon.delivery.assembly import Gathered
from daemon.delivery.destination import Item
from daemon.document.difference import Differences, differences, parsed
from daemon.state.delivery_records import DueOrder, Hold

AS_WRITTEN = "(as written)"
"""The attribute of a document that means the same and is sent all the same: its bytes differ."""


class Fate(StrEnum):
    """What would become of an order."""

    UNCHANGED = "unchanged"
    CHANGED = "changed"
    UNCERTAIN = "uncertain"  # equal to what was last accepted, but that may not be what the API has
    NEW = "new"  # never accepted so far
    VOIDED = "voided"
    NOT_SENT = "not_sent"  # no order for this destination, cancelled before it was sent, or deleted
    WAITING = "waiting"
    INVALID = "invalid"


@dataclass(frozen=True, slots=True)
class Known:
    """One order as the state has it: its record, and the document last accepted.

    It is not `certain` that the API has that document while a later request's outcome is unknown, or once the state
    went back: an equal one is sent then as well.
    """

    due: DueOrder
    accepted: bytes | None
    certain: bool

    def as_accepted(self) -> DueOrder:
        """The record as it is judged by what was last accepted: with that as it is, the order is unchanged."""
        known = self.accepted is not None and self.certain
        return replace(self.due, digest=hashlib.sha256(self.accepted or b"").digest() if known else None)


@dataclass(frozen=True, slots=True)
class Example:
    """One order that would change. `differences` holds the accepted and the planned value of each attribute."""

    order_key: str
    order_id: str
    fate: Fate
    differences: Differences


@dataclass(slots=True)
class Plan:
    """The sums. `size` is the bytes that would be sent, `attributes` counts orders in which each one differs."""

    most_examples: int = 5
    orders: Counter[Fate] = field(default_factory=Counter)
    attributes: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    fault_examples: dict[str, tuple[str, str]] = field(default_factory=dict)  # reason -> order key, what is wrong
    examples: list[Example] = field(default_factory=list)
    size: int = 0

    def add(self, page: Iterable[Known], gathered: Gathered) -> None:
        """Count a page of orders and what they were judged to be."""
        accepted = {one.due.key: one.accepted for one in page}
        for item in gathered.items:
            self._sent(item, accepted[item.key])
        for fault in gathered.faults:
            self.orders[Fate.INVALID] += 1
            self.faults[fault.reason] += 1
            self.fault_examples.setdefault(fault.reason, (fault.due.key, fault.detail))
        for judgement in gathered.judgements:
            if judgement.hold is Hold.WAITING:
                self.orders[Fate.WAITING] += 1
            elif judgement.hold is None or (judgement.hold is Hold.VOID and accepted[judgement.key] is not None):
                self.orders[Fate.UNCHANGED] += 1
            else:
                self.orders[Fate.NOT_SENT] += 1

    def _sent(self, item: Item, accepted: bytes | None) -> None:
        self.size += len(item.document.body) + 1
        if accepted == item.document.body:
            self.orders[Fate.UNCERTAIN] += 1
            return
        fate = Fate.VOIDED if item.void else Fate.NEW if accepted is None else Fate.CHANGED
        self.orders[fate] += 1
        if accepted is None:
            return
        before, after = parsed(accepted), parsed(item.document.body)
        found = differences(before, after) or {AS_WRITTEN: (None, None)}
        if fate is Fate.CHANGED:
            self.attributes.update(found.keys())
        shown = sum(example.fate is fate for example in self.examples)
        if shown < self.most_examples:
            self.examples.append(Example(item.key, item.order_id, fate, found))
