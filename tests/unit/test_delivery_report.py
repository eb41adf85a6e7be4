"""What is told of a destination while its leader counts, cannot count, and leads no more."""

from __future__ import annotations

import pytest
import structlog
from fixtures.clock import Clock

from daemon.delivery.destination import Policy, State
from daemon.delivery.report import Report
from daemon.delivery.verdict import Kind
from daemon.operate.metrics import Metrics
from daemon.settings import Delivery
from daemon.state.delivery_records import Counts, Drift, Hold, Parked
from daemon.state.schedule import Lane

AGE = "order_sync_oldest_owed_age_seconds"
HOLD = "order_sync_hold_age_seconds"


@pytest.fixture
def metrics() -> Metrics:
    """A registry of its own."""
    return Metrics()


@pytest.fixture
def report(metrics: Metrics, clock: Clock) -> Report:
    """Of destination `d`, leading."""
    made = Report(metrics, "d", Delivery(), "on", structlog.get_logger(), clock.monotonic)
    made.led(led=True)
    return made


def test_the_age_grows_on_while_nobody_can_count(report: Report, metrics: Metrics, clock: Clock) -> None:
    """Postgres is away: the headline must not stand still at its last value. Nothing owed stays nothing owed."""
    report.counts(
        Counts({"owed_live": 2, "owed_backfill": 0}, {Lane.LIVE: 30.0}, {"paused": 20.0}),
        {"backoff": 5.0, "fence": 0.0},
    )
    clock.advance(600)
    sample = metrics.registry.get_sample_value
    assert sample(AGE, {"destination": "d", "lane": "live"}) == 630
    assert sample(AGE, {"destination": "d", "lane": "backfill"}) == 0
    holds = {hold: sample(HOLD, {"destination": "d", "hold": hold}) for hold in ("paused", "backoff", "fence")}
    assert holds == {"paused": 620, "backoff": 605, "fence": 0}


def test_counters_start_at_0(report: Report, metrics: Metrics) -> None:
    """An increase from nothing is none: the first order that is refused or parked would not be seen."""
    sample = metrics.registry.get_sample_value
    for name, label, value in (
        ("requests_total", "verdict", "refused"),
        ("quarantined_total", "reason", "invalid"),
        ("quarantined_total", "reason", "waiting_no_root"),
        ("parked_total", "hold", "guarded"),
    ):
        assert sample(f"order_sync_{name}", {"destination": "d", label: value}) == 0
    assert sample("order_sync_oddities_total", {"reason": "sum_mismatch"}) == 0


def test_who_leads_no_more_tells_no_counts(report: Report, metrics: Metrics) -> None:
    """Else the counts of a former leader would stand beside the real ones for ever."""
    report.counts(Counts({"owed_live": 2}, {Lane.LIVE: 30.0}, {"paused": 20.0}), {"backoff": 5.0, "fence": 0.0})
    report.parked_counts({Hold.GUARDED: Parked(3, 900, 60.0)})
    report.budget(State(Policy(Delivery())), 0.0)
    report.drift(Drift({"missing": 1}, 0.0))
    report.changed(State(Policy(Delivery())), State(Policy(Delivery()), halted="401", failures=99))
    assert 'order_sync_orders{destination="d",state="guarded"} 3.0' in metrics.exposition().decode()
    report.led(led=False)
    report.led(led=False)
    text = metrics.exposition().decode()
    for name in ("orders", "parked_bytes", "zeroed_orders", "budget_used_bytes", "drift_orders"):
        assert f"order_sync_{name}{{" not in text
    assert f"{AGE}{{" not in text
    assert f"{HOLD}{{" not in text
    assert 'order_sync_destination_halted{destination="d"} 0.0' in text
    assert 'order_sync_leader{destination="d"} 0.0' in text


def test_verdicts_are_there_from_the_start(report: Report, metrics: Metrics) -> None:
    """The first failure of a kind is an increase from 0, not the appearance of a series, which no rate sees."""
    assert report is not None
    for kind in Kind:
        labels = {"destination": "d", "verdict": kind.value}
        assert metrics.registry.get_sample_value("order_sync_requests_total", labels) == 0
