"""What the demo shows of the daemon is what the daemon's metrics say."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from daemon.demo.figures import Figures, quantile, read
from daemon.demo.view import View
from daemon.operate.metrics import Metrics


def test_figures_are_read_from_the_daemons_own_metrics() -> None:
    """Each figure comes from the metric of the same meaning, summed over its labels."""
    metrics = Metrics()
    folded = {"op": "c", "outcome": "folded", "reason": ""}
    metrics.messages_total.labels(topic="a", **folded).inc(3)
    metrics.messages_total.labels(topic="b", **folded).inc(4)
    metrics.messages_total.labels(topic="a", op="c", outcome="stale", reason="").inc(9)
    for partition in range(3):
        metrics.consumer_lag_messages.labels(topic="a", partition=str(partition)).set(2)
    metrics.orders.labels(destination="demo", state="owed_live").set(5)
    metrics.requests_total.labels(destination="demo", verdict="accepted").inc(8)
    metrics.accepted_orders_total.labels(destination="demo").inc(80)
    metrics.budget_used_bytes.labels(destination="demo").set(100)
    metrics.budget_bytes.labels(destination="demo").set(1000)
    metrics.oldest_owed_age_seconds.labels(destination="demo", lane="live").set(1.5)
    metrics.oldest_owed_age_seconds.labels(destination="demo", lane="backfill").set(99)
    for _ in range(10):
        metrics.freshness_seconds.labels(destination="demo", lane="live").observe(4)
    figures = read(metrics.exposition().decode())
    assert figures.folded == 7
    assert figures.lag_messages == 6
    assert figures.orders == {"owed_live": 5}
    assert figures.requests == {"accepted": 8}
    assert (figures.accepted, figures.budget_used, figures.budget) == (80, 100, 1000)
    assert figures.oldest_owed_secs == 1.5
    assert figures.freshness_p50_secs == pytest.approx(3.0)


@pytest.mark.parametrize(
    ("buckets", "share", "wanted"),
    [
        ({}, 0.5, None),
        ({1.0: 0, float("inf"): 0}, 0.5, None),
        ({1.0: 10, 2.0: 10, float("inf"): 10}, 0.5, 0.5),
        ({1.0: 0, 2.0: 10, float("inf"): 10}, 0.5, 1.5),
        ({1.0: 5, 2.0: 5, float("inf"): 10}, 0.95, 2.0),
    ],
)
def test_quantile(buckets: dict[float, float], share: float, wanted: float | None) -> None:
    """Linear within a bucket, the last bound beyond it, none without an observation."""
    assert quantile(buckets, share) == wanted


@pytest.mark.parametrize("terminal", [True, False])
def test_the_view_shows_lag_freshness_and_the_api(terminal: bool) -> None:
    """On a terminal and in a log alike, one look tells how far the daemon is."""
    output = io.StringIO()
    view = View(Console(file=output, force_terminal=terminal, width=160))
    with view.live():
        view.show(
            9.0,
            Figures(lag_messages=17, freshness_p50_secs=3.25),
            {"place": 4},
            {"orders": 31, "accepted_orders": 42, "posts": 5},
        )
    shown = output.getvalue()
    assert "17" in shown
    assert "3.2 s" in shown
    assert "31 orders" in shown
    assert "42 accepted" in shown
