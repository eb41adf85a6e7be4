"""Metrics and log events of one destination. Events carry counts and verdicts, never what a document holds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from prometheus_client import Gauge

from daemon.delivery.assembly import Gathered
from daemon.delivery.destination import State
from daemon.delivery.verdict import Kind, Verdict
from daemon.document.outcome import Oddity, WaitingReason
from daemon.operate.metrics import Metrics
from daemon.settings import Delivery
from daemon.state.delivery_records import (
    PARKED,
    Counts,
    Drift,
    Fate,
    Freshness,
    Gone,
    Hold,
    Judgement,
    Parked,
    Settlement,
)
from daemon.state.era import Era
from daemon.state.schedule import Lane

MODES = ("off", "shadow", "on")
# Besides `fails_` and how a request with this order alone fails.
QUARANTINES = (
    "invalid",
    "rejected",
    "too_large",
    "duplicate_vendor_id",
    "vendor_id_changed",
    *(f"waiting_{reason}" for reason in WaitingReason),
)


class Report:
    """What the outside gets to see of a delivery loop."""

    def __init__(
        self,
        metrics: Metrics,
        destination: str,
        settings: Delivery,
        mode: str,
        log: Any,
        clock: Callable[[], float],
    ) -> None:
        self._metrics = metrics
        self._destination = destination
        self._log = log
        self._clock = clock
        self._told: dict[tuple[Gauge, tuple[str, ...]], Gauge] = {}  # what only a leader knows
        # Counters start at 0: an increase from nothing is none, and a panel without a series says nothing.
        for kind in Kind:
            metrics.requests_total.labels(destination, kind.value)
        for reason in QUARANTINES:
            metrics.quarantined_total.labels(destination, reason)
        for hold in PARKED:
            metrics.parked_total.labels(destination, hold.value)
        for oddity in Oddity:
            metrics.oddities_total.labels(oddity.value)
        for lane in Lane:
            metrics.freshness_seconds.labels(destination, lane.name.lower())
        metrics.budget_bytes.labels(destination).set(settings.budget_bytes)
        for other in MODES:
            metrics.delivery_mode.labels(destination, other).set(int(other == mode))
        self._guarding = False
        self._leader = metrics.leader.labels(destination)
        self.led(led=False)

    def led(self, *, led: bool) -> None:
        """Whether this process delivers. What only a leader knows is told by nobody else."""
        self._leader.set(int(led))
        if not led:
            for gauge, labels in self._told:
                gauge.remove(*labels)
            self._told = {}
            self._metrics.destination_halted.labels(self._destination).set(0)
            self._metrics.circuit_open.labels(self._destination).set(0)

    def changed(self, before: State, after: State) -> None:
        """A halt or an open circuit began or ended."""
        if (before.halted is None) != (after.halted is None):
            self._metrics.destination_halted.labels(self._destination).set(int(after.halted is not None))
            if after.halted is not None:
                self._log.error("destination halted", reason=after.halted.split(":")[0])
            else:
                self._log.info("destination not halted any more")
        if before.circuit_open != after.circuit_open:
            self._metrics.circuit_open.labels(self._destination).set(int(after.circuit_open))
            if after.circuit_open:
                self._log.warning("circuit open", failures=after.failures)
            else:
                self._log.info("circuit closed")

    def ended(self, verdict: Verdict, orders: int, size: int, secs: float) -> None:
        """A request came to a verdict."""
        metrics = self._metrics
        metrics.requests_total.labels(self._destination, verdict.kind.value).inc()
        metrics.request_seconds.labels(self._destination).observe(secs)
        if verdict.kind is not Kind.NOT_SENT:
            metrics.request_bytes_total.labels(self._destination).inc(size)
        event = self._log.info if verdict.kind is Kind.ACCEPTED else self._log.warning
        event(
            "request ended",
            verdict=verdict.kind.value,
            status=verdict.status,
            orders=orders,
            bytes=size,
            secs=round(secs, 3),
            # Without an answer it is ours or the network's; what the vendor says may quote a customer.
            **({"why": verdict.detail} if verdict.status is None and verdict.detail else {}),
        )

    def settled(self, settlement: Settlement, accepted: Sequence[Freshness]) -> None:
        """Its orders were recorded."""
        self._metrics.accepted_orders_total.labels(self._destination).inc(len(accepted))
        for one in accepted:
            if one.secs is not None:
                lane = Lane(one.lane).name.lower()
                self._metrics.freshness_seconds.labels(self._destination, lane).observe(max(one.secs, 0.0))
        self._count_quarantined(order.reason or "" for order in settlement.orders if order.fate is Fate.QUARANTINED)

    def judged(self, gathered: Gathered, applied: Iterable[str]) -> None:
        """Orders were settled or held without a request."""
        self._metrics.unchanged_orders_total.labels(self._destination).inc(
            len(gathered.unchanged.intersection(applied))
        )
        for oddity, count in gathered.oddities.items():
            self._metrics.oddities_total.labels(str(oddity)).inc(count)

    def quarantined(self, judgements: Iterable[Judgement], applied: Iterable[str]) -> None:
        """Orders were put into quarantine outside a request's settlement."""
        held = set(applied)
        self._count_quarantined(one.quarantine or "" for one in judgements if one.key in held)

    def _count_quarantined(self, reasons: Iterable[str]) -> None:
        for reason, count in Counter(reasons).items():
            self._metrics.quarantined_total.labels(self._destination, reason).inc(count)
            self._log.warning("orders quarantined", reason=reason, orders=count)

    def parked(self, judgements: Iterable[Judgement], applied: Iterable[str]) -> None:
        """Orders could be sent and must not yet. That the void guard began to hold some is said once."""
        held = set(applied)
        for hold, count in Counter(one.hold for one in judgements if one.key in held and one.hold).items():
            self._metrics.parked_total.labels(self._destination, hold.value).inc(count)
            if hold is Hold.GUARDED and not self._guarding:
                self._guarding = True
                self._log.error("void guard holds orders until a person decides", orders_so_far=count)

    def drift(self, drift: Drift | None) -> None:
        """What the newest reconcile found."""
        if drift is None:
            return
        for kind, count in drift.orders.items():
            self._leaders(self._metrics.drift_orders, kind).set(count)
        self._leaders(self._metrics.drift_checked_timestamp_seconds).set(drift.at)

    def _leaders(self, gauge: Gauge, *labels: str) -> Gauge:
        """The destination's series of a gauge that is gone once this process leads no more."""
        named = (self._destination, *labels)
        told = self._told.get((gauge, named))
        if told is None:
            told = self._told[gauge, named] = gauge.labels(*named)
        return told

    def _grown(self, age: float, at: float) -> float:
        """An age that was counted at monotonic time `at`, now."""
        return age + self._clock() - at if age else 0.0

    def _age(self, gauge: Gauge, label: str, age: float, at: float) -> None:
        """An age that was counted at monotonic time `at`. It grows on if none can count again."""
        self._leaders(gauge, label).set_function(partial(self._grown, age, at))

    def budget(self, state: State, now: float) -> None:
        """What counts now: bytes, and orders that went to 0."""
        self._leaders(self._metrics.budget_used_bytes).set(state.ledger.used(now))
        self._leaders(self._metrics.zeroed_orders).set(state.ledger.zeroed(now))

    def era(self, era: Era) -> None:
        """Which era is the present one, and since when."""
        self._metrics.era.set(era.number)
        self._metrics.era_age_seconds.set(era.secs)

    def gone(self, gone: Gone) -> None:
        """What was old was removed."""
        if gone.request_partitions:
            self._metrics.request_partitions_dropped_total.inc(gone.request_partitions)
            self._log.info("old requests removed", partitions=gone.request_partitions)
        if gone.actions:
            self._log.info("old actions removed", count=gone.actions)

    def parked_counts(self, parked: Mapping[Hold, Parked]) -> None:
        """Parked orders by reason."""
        at = self._clock()
        for hold in PARKED:
            found = parked.get(hold, Parked(0, 0, 0.0))
            self._leaders(self._metrics.orders, hold.value).set(found.orders)
            self._leaders(self._metrics.parked_bytes, hold.value).set(found.size)
            self._age(self._metrics.hold_age_seconds, hold.value, found.oldest_secs, at)
        self._guarding = self._guarding and Hold.GUARDED in parked

    def counts(self, counts: Counts, holds: Mapping[str, float]) -> None:
        """Orders by state, the age of the oldest owed one of each lane, and of what holds any back."""
        at = self._clock()
        for hold, age in {**counts.holds, **holds}.items():
            self._age(self._metrics.hold_age_seconds, hold, age, at)
        for state, count in counts.orders.items():
            self._leaders(self._metrics.orders, state).set(count)
        for lane in Lane:
            age = counts.oldest_secs.get(lane, 0.0)
            self._age(self._metrics.oldest_owed_age_seconds, lane.name.lower(), age, at)
