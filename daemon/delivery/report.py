"""Metrics and log events of one destination. Events carry counts and verdicts, never what a document holds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from daemon.delivery.assembly import Gathered
from daemon.delivery.destination import State
from daemon.delivery.verdict import Kind, Verdict
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


class Report:
    """What the outside gets to see of a delivery loop."""

    def __init__(self, metrics: Metrics, destination: str, settings: Delivery, mode: str, log: Any) -> None:
        self._metrics = metrics
        self._destination = destination
        self._log = log
        metrics.budget_bytes.labels(destination).set(settings.budget_bytes)
        metrics.destination_halted.labels(destination).set(0)
        metrics.circuit_open.labels(destination).set(0)
        for other in MODES:
            metrics.delivery_mode.labels(destination, other).set(int(other == mode))
        self._guarding = False
        self.led(led=False)

    def led(self, *, led: bool) -> None:
        """Whether this process delivers."""
        self._metrics.leader.labels(self._destination).set(int(led))

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
            self._metrics.drift_orders.labels(self._destination, kind).set(count)
        self._metrics.drift_checked_timestamp_seconds.labels(self._destination).set(drift.at)

    def budget(self, state: State, now: float) -> None:
        """What counts now: bytes, and orders that went to 0."""
        self._metrics.budget_used_bytes.labels(self._destination).set(state.ledger.used(now))
        self._metrics.zeroed_orders.labels(self._destination).set(state.ledger.zeroed(now))

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
        for hold in PARKED:
            found = parked.get(hold, Parked(0, 0, 0.0))
            self._metrics.orders.labels(self._destination, hold.value).set(found.orders)
            self._metrics.parked_bytes.labels(self._destination, hold.value).set(found.size)
            self._metrics.hold_age_seconds.labels(self._destination, hold.value).set(found.oldest_secs)
        self._guarding = self._guarding and Hold.GUARDED in parked

    def counts(self, counts: Counts, holds: Mapping[str, float]) -> None:
        """Orders by state, the age of the oldest owed one of each lane, and of what holds any back."""
        for hold, age in {**counts.holds, **holds}.items():
            self._metrics.hold_age_seconds.labels(self._destination, hold).set(age)
        for state, count in counts.orders.items():
            self._metrics.orders.labels(self._destination, state).set(count)
        for lane in Lane:
            age = counts.oldest_secs.get(lane, 0.0)
            self._metrics.oldest_owed_age_seconds.labels(self._destination, lane.name.lower()).set(age)
