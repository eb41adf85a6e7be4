"""Ways to get delivery wrong, each a small patch to the real code. The oracle must find every one of them.

Most are patches of the memory store, whose functions are one to one the statements of `delivery.sql`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest

from daemon.delivery import aftermath, budget, core
from daemon.delivery.destination import Intake, Tally
from daemon.delivery.verdict import Kind
from daemon.settings import Delivery
from daemon.state import memory_delivery as memory
from daemon.state.delivery_records import Fate, Lease
from daemon.state.schedule import Lane
from simulation.climate import Style

Patch = pytest.MonkeyPatch


@dataclass(frozen=True)
class Mutant:
    """`make` applies it; `styles` are the worlds in which it does harm, `seeds` how many of them may be needed."""

    name: str
    make: Callable[[Patch], None]
    styles: tuple[Style, ...]
    seeds: int = 12


def _settle_without_epoch(patch: Patch) -> None:
    """Whoever thinks that it led settles orders, whatever became of them since.

    With the epoch alone left out, the request's own row would still keep it from doing harm: this goes by order alone.
    """
    settle = memory.MemoryDeliveryStore.settle

    async def anybody(self: Any, lease: Any, settlement: Any) -> Any:
        record = self.destination(lease.destination)
        request = record.requests.get(settlement.request)
        if request is None or request.counts_until is None:
            return await settle(self, Lease(lease.destination, record.epoch, record.holder), settlement)
        for one in settlement.orders:
            memory._land(record.orders[one.key], one, self._clock())
        return []

    patch.setattr(memory.MemoryDeliveryStore, "settle", anybody)


def _reserve_without_epoch(patch: Patch) -> None:
    """Whoever thinks that it leads puts orders in flight."""
    patch.setattr(memory.MemoryDeliveryStore, "_led_under", lambda self, lease, _: self.destination(lease.destination))


def _settle_newest(patch: Patch) -> None:
    """An acceptance settles what came while the request was under way, too."""
    accept = memory._accept

    def newest(order: Any, end: Any, now: float) -> None:
        accept(order, end, now)
        order.settled_revision = order.revision

    patch.setattr(memory, "_accept", newest)


def _ledger_released_at_send(patch: Patch) -> None:
    """Bytes count for one window from when they were sent, not from when they were answered."""
    send, close = core._send, budget.Ledger.close

    def sent(state: Any, lane: Any, batch: Any, group: Any, now: float) -> Any:
        number = state.next_number
        state, actions = send(state, lane, batch, group)
        window = state.policy.settings.budget_window_secs
        return replace(state, ledger=close(state.ledger, number, now + window)), actions

    def planned(state: Any, now: float) -> Any:
        patch.setattr(core, "_send", lambda state, lane, batch, group: sent(state, lane, batch, group, now))
        return plan(state, now)

    plan = core._plan
    patch.setattr(core, "_plan", planned)

    def first(self: Any, number: int, until: float) -> Any:
        known = next((entry.until for entry in self.entries if entry.number == number), None)
        return self if known is not None else close(self, number, until)

    patch.setattr(budget.Ledger, "close", first)


def _no_fence(patch: Patch) -> None:
    """An unanswered request is taken for one that cannot land any more."""
    patch.setattr(Delivery, "fence_secs", 0.0)


def _exclusion_per_process(patch: Patch) -> None:
    """Everyone leads; each keeps its own requests apart only."""

    async def take(self: Any, destination: int, holder: Any, secs: float) -> Lease:
        record = self.destination(destination)
        record.holder = record.holder or holder
        record.expires_at = self._clock() + secs
        return Lease(destination, record.epoch, record.holder)

    async def nothing(self: Any, lease: Any, hold_secs: float) -> Any:
        return [], []

    def due(self: Any, now: float) -> bool:
        waits: bool = self.owed() and self.quarantine_revision != self.revision
        return waits and max(self.due_at, self.not_before) <= now

    def can_go(orders: Any, going: Any, now: float) -> bool:
        return going.key in orders and bool(orders[going.key].settled_revision < going.revision)

    patch.setattr(memory.MemoryDeliveryStore, "take_lease", take)
    patch.setattr(memory.MemoryDeliveryStore, "inherit", nothing)
    patch.setattr(memory.OrderRecord, "due", due)
    patch.setattr(memory, "_can_go", can_go)


def _digest_before_acceptance(patch: Patch) -> None:
    """What is sent counts as what the vendor has."""
    put, land = memory._put_in_flight, memory._land

    def put_in_flight(order: Any, going: Any, request: int, mapping_version: str) -> None:
        put(order, going, request, mapping_version)
        order.digest = hashlib.sha256(going.body).digest()

    def landed(order: Any, end: Any, now: float) -> None:
        digest = order.digest
        land(order, end, now)
        order.digest = digest

    patch.setattr(memory, "_put_in_flight", put_in_flight)
    patch.setattr(memory, "_land", landed)


def _digest_kept(patch: Patch) -> None:
    """An unknown outcome leaves the digest of the last accepted document standing."""
    put, land = memory._put_in_flight, memory._land

    def put_in_flight(order: Any, going: Any, request: int, mapping_version: str) -> None:
        digest = order.digest
        put(order, going, request, mapping_version)
        order.digest = digest

    def landed(order: Any, end: Any, now: float) -> None:
        digest = order.digest
        land(order, end, now)
        order.digest = digest if end.fate is Fate.UNKNOWN else order.digest

    patch.setattr(memory, "_put_in_flight", put_in_flight)
    patch.setattr(memory, "_land", landed)


def _never_sent_from_settled(patch: Patch) -> None:
    """Only what was accepted counts as ever sent."""
    put, land = memory._put_in_flight, memory._land

    def put_in_flight(order: Any, going: Any, request: int, mapping_version: str) -> None:
        before = order.ever_attempted
        put(order, going, request, mapping_version)
        order.ever_attempted = before

    def landed(order: Any, end: Any, now: float) -> None:
        before = order.ever_attempted
        land(order, end, now)
        order.ever_attempted = before or end.fate is Fate.ACCEPTED

    patch.setattr(memory, "_put_in_flight", put_in_flight)
    patch.setattr(memory, "_land", landed)


def _limit_is_an_attempt(patch: Patch) -> None:
    """Orders pay for a 429."""
    settle = memory.MemoryDeliveryStore.settle

    async def counted(self: Any, lease: Any, settlement: Any) -> Any:
        accepted = await settle(self, lease, settlement)
        if settlement.outcome == Kind.LIMITED.value:
            for one in settlement.orders:
                self.destination(lease.destination).orders[one.key].attempts += 1
        return accepted

    patch.setattr(memory.MemoryDeliveryStore, "settle", counted)


def _backfill_first(patch: Patch) -> None:
    """The backfill has its turn before live changes, and no share of the budget is kept for those."""
    patch.setattr(core, "_lanes", lambda *_: [Lane.BACKFILL, Lane.LIVE])
    room = budget.Ledger.room

    def all_of_it(self: Any, now: float, lane: Any, shares: Any, *, backfill_waits: bool) -> int:
        return room(self, now, lane, replace(shares, live=0.0), backfill_waits=backfill_waits)

    patch.setattr(budget.Ledger, "room", all_of_it)


def _quarantine_for_401(patch: Patch) -> None:
    """A refused key is taken for the orders' fault."""
    refused = aftermath._refused

    def convicting(state: Any, flight: Any, verdict: Any, now: float) -> Any:
        if verdict.status != 401:
            return refused(state, flight, verdict, now)
        named = {item.order_id: "unauthorised" for item in flight.items}
        state, records = aftermath._convict(state, list(flight.items), named, now, "rejected")
        return aftermath._settle(state, flight, verdict, now, records)

    patch.setattr(aftermath, "_refused", convicting)


def _error_is_not_applied(patch: Patch) -> None:
    """A 5xx is taken for a refusal: nothing was applied, so it can be sent again at once."""
    unknown = aftermath._unknown

    def not_applied(state: Any, flight: Any, verdict: Any, now: float, jitter: float) -> Any:
        if verdict.status is None:
            return unknown(state, flight, verdict, now, jitter)
        return aftermath._settle(state, flight, verdict, now, aftermath._all(flight, Fate.NOT_APPLIED))

    patch.setattr(aftermath, "_unknown", not_applied)


def _one_due_time(patch: Patch) -> None:
    """Debounce and fence share one due time: a change overrides the fence."""
    touch = memory.MemoryDeliveryStore.touch

    def touched(self: Any, destination: int, key: str, *, lane: int = 0, due_in: float = 0.0) -> None:
        touch(self, destination, key, lane=lane, due_in=due_in)
        self.destination(destination).orders[key].not_before = memory.NEVER

    patch.setattr(memory.MemoryDeliveryStore, "touch", touched)


def _quarantine_without_revision(patch: Patch) -> None:
    """A quarantine holds the order, whatever becomes of it."""
    due = memory.OrderRecord.due

    def never(self: Any, now: float) -> bool:
        return self.quarantine_revision is None and due(self, now)

    patch.setattr(memory.OrderRecord, "due", never)


def _doubt_forgotten(patch: Patch) -> None:
    """A request whose row was not there when it was given up is thought never to come."""
    settle = memory.MemoryDeliveryStore.settle

    async def nothing_there(self: Any, lease: Any, settlement: Any) -> Any:
        if settlement.request not in self.destination(lease.destination).requests:
            return []
        return await settle(self, lease, settlement)

    patch.setattr(memory.MemoryDeliveryStore, "settle", nothing_there)


def _late_finisher_silent(patch: Patch) -> None:
    """A process that was paused for longer than the fence does not make good what it overwrote."""

    async def silent(self: Any, destination: int, keys: Any, hold_secs: float) -> None:
        return None

    patch.setattr(memory.MemoryDeliveryStore, "reopen", silent)


def _hasty_blame(patch: Patch) -> None:
    """An order is convicted as soon as anything else passed, however the others fare."""
    patch.setattr(Tally, "explains", lambda self, _: not self.passed)


def _guard_per_process(patch: Patch) -> None:
    """The void guard begins anew with every leader."""
    start = core.start

    def forgetful(settings: Any, standing: Any, requests: Any, ledger: Any, *others: Any) -> Any:
        requests = [replace(one, zeroed=0) for one in requests]
        return start(settings, standing, requests, [replace(one, zeroed=0) for one in ledger], *others)

    patch.setattr(core, "start", forgetful)


def _guard_counts_accepted(patch: Patch) -> None:
    """The void guard counts what was accepted, and forgets what got no answer."""
    counted = aftermath._zeroed
    patch.setattr(
        aftermath,
        "_zeroed",
        lambda flight, records: counted(flight, [one for one in records if one.fate is Fate.ACCEPTED]),
    )


def _parked_without_revision(patch: Patch) -> None:
    """An order that was parked once stays parked, whatever becomes of it."""
    due = memory.OrderRecord.due

    def never(self: Any, now: float) -> bool:
        return self.parked_revision is None and due(self, now)

    patch.setattr(memory.OrderRecord, "due", never)


def _newest_first(patch: Patch) -> None:
    """Old orders are released as they come, not oldest first."""
    patch.setattr(memory, "sorted", lambda found: list(found)[::-1], raising=False)


def _everything_asked_for(patch: Patch) -> None:
    """Once anything of the backfill was asked for, all of it goes."""
    patch.setattr(Intake, "in_turn", lambda self, placed_at: self.asked is not None or placed_at >= self.live_since)


def _no_era(patch: Patch) -> None:
    """Nobody sees that the state went back; ingest reads again from where it stands."""
    patch.setattr(memory.MemoryDeliveryStore, "begin_era", lambda *_: None)


def _era_keeps_digests(patch: Patch) -> None:
    """What was accepted before the state went back is taken for what the vendor has."""
    due = memory._due

    def trusting(order: Any, now: float, era: int) -> Any:
        return replace(due(order, now, era), digest=order.digest)

    patch.setattr(memory, "_due", trusting)


MUTANTS = (
    Mutant("settle without epoch", _settle_without_epoch, (Style.PROCESSES, Style.EVERYTHING), 60),
    Mutant("reserve without epoch", _reserve_without_epoch, (Style.PROCESSES, Style.EVERYTHING), 60),
    Mutant("settle the newest revision", _settle_newest, (Style.LINE, Style.CLEAN)),
    Mutant("ledger released at send", _ledger_released_at_send, (Style.CLEAN, Style.ORDERS), 30),
    Mutant("no fence", _no_fence, (Style.LINE,)),
    Mutant("exclusion per process only", _exclusion_per_process, (Style.CLEAN,)),
    Mutant("digest stored before acceptance", _digest_before_acceptance, (Style.LINE,)),
    Mutant("digest kept through an unknown outcome", _digest_kept, (Style.LINE,)),
    Mutant("never sent from settled state", _never_sent_from_settled, (Style.LINE,)),
    Mutant("429 counts an attempt", _limit_is_an_attempt, (Style.LINE, Style.VENDOR)),
    Mutant("backfill first", _backfill_first, (Style.CLEAN,)),
    Mutant("quarantine for 401", _quarantine_for_401, (Style.VENDOR,)),
    Mutant("5xx as not applied", _error_is_not_applied, (Style.LINE,)),
    Mutant("one shared due time", _one_due_time, (Style.LINE, Style.EVERYTHING), 30),
    Mutant("quarantine without its revision", _quarantine_without_revision, (Style.ORDERS,)),
    Mutant("commit in doubt forgotten", _doubt_forgotten, (Style.STATE, Style.EVERYTHING)),
    Mutant("late finisher silent", _late_finisher_silent, (Style.PROCESSES,), 30),
    Mutant("no era", _no_era, (Style.STATE,), 30),
    Mutant("an era keeps digests", _era_keeps_digests, (Style.STATE, Style.EVERYTHING), 60),
    Mutant("blame at the first contrast", _hasty_blame, (Style.LINE, Style.VENDOR)),
    Mutant("guard counts per process only", _guard_per_process, (Style.PROCESSES, Style.LINE, Style.EVERYTHING), 30),
    Mutant("guard counts what was accepted", _guard_counts_accepted, (Style.LINE, Style.EVERYTHING), 30),
    Mutant("parked without its revision", _parked_without_revision, (Style.ORDERS, Style.STATE)),
    Mutant("backfill not oldest first", _newest_first, (Style.CLEAN, Style.ORDERS)),
    Mutant("all of the backfill once any is asked for", _everything_asked_for, (Style.ORDERS, Style.STATE)),
)
