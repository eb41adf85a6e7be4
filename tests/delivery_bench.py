"""The delivery core under a virtual clock: a made-up vendor, a made-up state, every action carried out in memory."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from daemon.delivery import core
from daemon.delivery.core import Answered
from daemon.delivery.destination import (
    OPEN,
    Action,
    Fetch,
    Fetched,
    Intake,
    Item,
    OrderFault,
    Park,
    Quarantine,
    Reserved,
    Send,
    Settle,
    State,
    Tick,
)
from daemon.delivery.verdict import Fault, Kind, Verdict
from daemon.document.outcome import Document
from daemon.settings import Delivery
from daemon.state.delivery_records import DueOrder, Fate, Hold, Standing
from daemon.state.schedule import Lane

Vendor = Callable[[float, Sequence[str], int], Verdict]
"""What the vendor says to a request that arrives at a time, with these order ids and so many bytes."""


@dataclass
class Order:
    """One order of the made-up state."""

    key: str
    lane: Lane
    body: bytes
    due_at: float = 0.0
    not_before: float = 0.0
    in_flight: bool = False
    accepted_at: float | None = None
    quarantined: str | None = None
    attempts: int = 0
    ever_attempted: bool = False
    zero: bool = False  # what it is now has no total
    zeroed: bool = False
    placed_at: float = 0.0
    parked: Hold | None = None
    clears: bool = False  # it is a PATCH that is owed

    def due(self, now: float) -> bool:
        held = self.quarantined is not None or self.parked is not None
        waits = self.accepted_at is None and not held and not self.in_flight
        return waits and max(self.due_at, self.not_before) <= now


@dataclass
class Arrival:
    """One request as the vendor saw it."""

    at: float
    lane: Lane
    order_ids: tuple[str, ...]
    size: int
    kind: Kind


@dataclass
class Bench:
    """Runs one destination. `latency` gives (until arrival, until answer) of each request."""

    settings: Delivery
    vendor: Vendor
    latency: Callable[[], tuple[float, float]] = lambda: (0.1, 0.1)
    orders: dict[str, Order] = field(default_factory=dict)
    now: float = 0.0
    arrivals: list[Arrival] = field(default_factory=list)
    halts: list[str] = field(default_factory=list)
    settle_secs: float = 0.0  # from an answer to the statement that settles it, by whose clock holds start
    unassembled: dict[str, str] = field(default_factory=dict)  # key -> reason: faults found before sending
    intake: Intake = OPEN

    def __post_init__(self) -> None:
        standing = Standing(asked=self.intake.asked)
        self.state: State = core.start(self.settings, standing, [], [], self.now, self.intake)
        self._answers: list[tuple[float, int, int, Verdict]] = []
        self._flying: dict[int, tuple[str, ...]] = {}
        self._tie = itertools.count()
        self._open: dict[Lane, dict[str, None]] = {lane: {} for lane in Lane}  # keys not accepted, in their order
        self._met = 0  # how many of the orders were ever among those

    def add(
        self, count: int, lane: Lane = Lane.LIVE, *, size: int = 100, prefix: str = "", due_at: float = 0.0
    ) -> None:
        """Owed orders."""
        for number in range(count):
            key = f"{prefix}{len(self.orders) + number * 0:05}"
            self.orders[key] = Order(key, lane, b"x" * size, due_at)

    def void(self, *keys: str) -> None:
        """Orders that were accepted are gone now: they are owed without a total."""
        for key in keys:
            order = self.orders[key]
            order.zero, order.accepted_at, order.due_at = True, None, self.now
            self._open[order.lane][key] = None

    def parked(self, hold: Hold) -> set[str]:
        """The orders that are parked for this reason."""
        return {key for key, order in self.orders.items() if order.parked is hold}

    def run(self, until: float, *, done: Callable[[], bool] = lambda: False) -> None:
        """Let time pass."""
        poll = self.settings.poll_interval_ms / 1000.0
        while self.now < until and not done():
            self._turn()
            soonest = self._answers[0][0] if self._answers else self.now + poll
            self.now = max(min(soonest, self.now + poll), self.now + 1e-6)

    def finished(self) -> bool:
        """Nothing is owed any more but what is in quarantine."""
        return all(order.accepted_at is not None or order.quarantined for order in self.orders.values())

    def accepted(self) -> set[str]:
        return {key for key, order in self.orders.items() if order.accepted_at is not None}

    def quarantined(self) -> set[str]:
        return {key for key, order in self.orders.items() if order.quarantined}

    def _turn(self) -> None:
        while self._answers and self._answers[0][0] <= self.now:
            _, _, number, verdict = heapq.heappop(self._answers)
            self._decide(Answered(number, verdict, 0.5))
        for _ in range(50):
            if not self._decide(Tick()):
                return

    def _decide(self, event: core.Event) -> bool:
        before = self.state.halted
        self.state, actions = core.step(self.state, event, self.now)
        if self.state.halted and not before:
            self.halts.append(self.state.halted)
        for action in actions:
            self._carry_out(action)
        return bool(actions)

    def _carry_out(self, action: Action) -> None:
        match action:
            case Fetch():
                self._fetch(action)
            case Send():
                self._send(action)
            case Settle():
                self._settle(action)
            case Quarantine():
                for fault in action.faults:
                    self.orders[fault.due.key].quarantined = fault.reason
                    self.orders[fault.due.key].attempts += action.attempt
            case Park():
                for one in action.judgements:
                    assert one.parked
                    self.orders[one.key].parked = one.hold

    def _fetch(self, fetch: Fetch) -> None:
        if fetch.group is not None:
            found = [self.orders[key] for key in fetch.group.keys if self.orders[key].due(self.now)]
        else:
            found = self._owed(fetch.lane, frozenset(fetch.busy), fetch.limit)
        items, faults = [], []
        for order in found:
            due = DueOrder(order.key, order.lane, 1, self.now, ever_attempted=order.ever_attempted, zeroed=order.zeroed)
            if order.key in self.unassembled:
                faults.append(OrderFault(due, self.unassembled[order.key], "no"))
            else:
                document = Document(order.key, order.body, b"", order.placed_at, order.zero)
                items.append(Item(due, document, self.now, clears=order.clears))
        more = fetch.group is None and len(found) >= fetch.limit
        self._decide(Fetched(fetch, tuple(items), tuple(faults), more))

    def _owed(self, lane: Lane, busy: frozenset[str], limit: int) -> list[Order]:
        """The first orders of a lane that are due, as an index finds them: accepted ones are not looked at."""
        for key in itertools.islice(self.orders, self._met, None):
            self._open[self.orders[key].lane][key] = None
        self._met = len(self.orders)
        owed = (self.orders[key] for key in self._open[lane] if key not in busy)
        return list(itertools.islice((order for order in owed if order.due(self.now)), limit))

    def _send(self, send: Send) -> None:
        keys = tuple(item.key for item in send.items)
        assert len(set(keys)) == len(keys)
        named = {key for others in self._flying.values() for key in others}
        assert not named.intersection(keys), "two requests in flight name one order"
        for key in keys:
            assert not self.orders[key].in_flight
            self.orders[key].in_flight = self.orders[key].ever_attempted = True
            self.orders[key].zeroed = self.orders[key].zero
        self._flying[send.number] = keys
        self._decide(Reserved(send.number, frozenset(keys)))
        to_vendor, to_us = self.latency()
        size = core.body_size(send.items)
        verdict = self.vendor(self.now + to_vendor, keys, size)
        if verdict.kind is not Kind.NOT_SENT:
            self.arrivals.append(Arrival(self.now + to_vendor, send.lane, keys, size, verdict.kind))
        heapq.heappush(self._answers, (self.now + to_vendor + to_us, next(self._tie), send.number, verdict))

    def _settle(self, settle: Settle) -> None:
        assert {one.key for one in settle.orders} == set(self._flying.pop(settle.number))
        for one in settle.orders:
            order = self.orders[one.key]
            order.in_flight = False
            if one.hold_secs:
                order.not_before = max(order.not_before, self.now + self.settle_secs + one.hold_secs)
            if one.fate in (Fate.NOT_SENT, Fate.NOT_APPLIED, Fate.QUARANTINED):
                order.ever_attempted, order.zeroed = one.attempted_before, one.zeroed_before
            if one.fate is Fate.ACCEPTED:
                order.accepted_at = self.now
                self._open[order.lane].pop(one.key, None)
            if one.fate is Fate.QUARANTINED:
                order.quarantined = one.reason
                order.attempts += 1


def accepting(_at: float, _ids: Sequence[str], _size: int) -> Verdict:
    """A vendor that takes everything."""
    return Verdict(Kind.ACCEPTED, 200, cause="200")


def refusing(bad: set[str], *, named: bool) -> Vendor:
    """A vendor that refuses every batch with a bad order in it, and may say which."""

    def answer(_at: float, ids: Sequence[str], _size: int) -> Verdict:
        found = [one for one in ids if one in bad]
        if not found:
            return Verdict(Kind.ACCEPTED, 200, cause="200")
        faults = tuple(Fault(one, "bad") for one in found) if named else ()
        return Verdict(Kind.REJECTED, 400, faults, cause="400")

    return answer
