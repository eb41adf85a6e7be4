"""Small measures of the ingest loop: the budget of rejects, and lag in time."""

from __future__ import annotations

import pytest

from daemon.ingest.lag import Lags
from daemon.ingest.reject_budget import RejectBudget
from daemon.operate.metrics import Metrics

P0, P1 = ("shop.orders", 0), ("shop.orders", 1)


def test_the_budget_slides() -> None:
    """Rejects older than the window do not count; each topic has a budget of its own."""
    budget = RejectBudget(10, 60.0)
    assert budget.judge({"a": 10}, 0.0) == {}
    budget.note({"a": 10}, 0.0)
    assert budget.judge({"a": 1, "b": 10}, 59.0) == {"a": 11}
    assert budget.judge({"a": 1}, 60.0) == {}


def test_a_person_may_want_rejects_kept_for_one_window() -> None:
    """What comes within it is kept whatever its number; afterwards the budget counts again, from what is recent."""
    budget = RejectBudget(10, 60.0)
    budget.note({"a": 10}, 0.0)
    budget.forgive("a", 100.0)
    assert budget.judge({"a": 5000}, 159.0) == {}
    budget.note({"a": 5000}, 159.0)
    assert budget.judge({"a": 1}, 160.0) == {"a": 5001}
    assert budget.judge({"a": 1}, 219.0) == {}


@pytest.fixture
def metrics() -> Metrics:
    """A registry of its own."""
    return Metrics()


def messages_behind(metrics: Metrics) -> dict[str, float]:
    """The lag of each partition as a scrape shows it."""
    [family] = metrics.consumer_lag_messages.collect()
    return {sample.labels["partition"]: sample.value for sample in family.samples}


def test_lag_in_time_is_the_age_of_the_oldest_end_not_reached(metrics: Metrics) -> None:
    """Steady traffic just behind its end is no lag that lasts; a partition that stands still is."""
    lags = Lags(metrics, ["shop.orders", "shop.lines"])
    for second in range(100):
        lags.note(P0, 10 * second, 10 * second + 10, float(second))
        lags.note(P1, 5, 6 + second, float(second))
    assert lags.tell(100.0) == 100.0
    assert metrics.registry.get_sample_value("order_sync_consumer_lag_seconds", {"topic": "shop.orders"}) == 100.0
    assert metrics.registry.get_sample_value("order_sync_consumer_lag_seconds", {"topic": "shop.lines"}) == 0.0
    lags.keep({P0})
    assert lags.tell(100.0) == 1.0


def test_a_partition_that_is_gone_is_not_told_any_more(metrics: Metrics) -> None:
    """Another member tells of it now: two series would show two lags."""
    lags = Lags(metrics, ["shop.orders"])
    lags.note(P0, -1, 7, 0.0)
    lags.note(P1, 7, 7, 0.0)
    assert messages_behind(metrics) == {"0": 7, "1": 0}
    lags.keep({P1})
    assert messages_behind(metrics) == {"1": 0}
    assert lags.tell(5.0) == 0.0
