"""The table of metrics, and what a scrape shows."""

from __future__ import annotations

import re

import pytest

from daemon.operate.metrics import Declaration, Metrics


def families(text: str) -> dict[str, str]:
    """Name and type of each metric in an exposition."""
    return dict(re.findall(r"^# TYPE (\S+) (\S+)$", text, re.MULTILINE))


def test_a_scrape_shows_exactly_the_declared_metrics() -> None:
    """Nothing is exported that the table lacks, and the other way round."""
    declared = {d.name: d.kind for d in Metrics.declarations()}
    assert families(Metrics().exposition().decode()) == declared


@pytest.mark.parametrize("declaration", Metrics.declarations(), ids=lambda d: d.name)
def test_names_follow_the_conventions(declaration: Declaration) -> None:
    """Prefix, `_total` on counters alone, units in the name, a sentence as help, no label that grows."""
    assert declaration.name.startswith("order_sync_")
    assert declaration.name.endswith("_total") == (declaration.kind == "counter")
    for unit in ("seconds", "bytes"):
        assert (declaration.unit == unit) == (f"_{unit}" in declaration.name)
    assert declaration.meaning[0].isupper() or declaration.meaning[0].isdigit()
    assert declaration.meaning.endswith((".", "headline."))
    assert not {"order", "order_id", "key", "error", "detail"} & declaration.labels.keys()
    assert all(declaration.labels.values())


def test_values_reach_the_scrape() -> None:
    """Counters, gauges and histograms are plain prometheus objects under their short names."""
    metrics = Metrics()
    metrics.messages_total.labels("shop.orders", "u", "folded", "").inc(3)
    metrics.orders.labels(destination="main", state="waiting").set(2)
    metrics.freshness_seconds.labels("main", "live").observe(70)
    text = metrics.exposition().decode()
    assert 'order_sync_messages_total{op="u",outcome="folded",reason="",topic="shop.orders"} 3.0' in text
    assert 'order_sync_orders{destination="main",state="waiting"} 2.0' in text
    assert 'order_sync_freshness_seconds_bucket{destination="main",lane="live",le="90.0"} 1.0' in text
    assert "_created" not in text


def test_two_instances_share_nothing() -> None:
    """Tests and processes each have a registry of their own."""
    one, other = Metrics(), Metrics()
    one.fold_retries_total.inc()
    assert one.registry.get_sample_value("order_sync_fold_retries_total") == 1
    assert other.registry.get_sample_value("order_sync_fold_retries_total") == 0
