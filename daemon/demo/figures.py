"""The few figures of the daemon that the demo shows, read from its `/metrics`."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

import httpx
from prometheus_client.parser import text_string_to_metric_families

SCRAPE_TIMEOUT_SECS = 2.0


@dataclass(frozen=True, slots=True)
class Figures:
    """One scrape. Freshness is None before anything was accepted in the live lane."""

    lag_messages: float = 0.0
    folded: float = 0.0
    freshness_p50_secs: float | None = None
    freshness_p95_secs: float | None = None
    oldest_owed_secs: float = 0.0
    accepted: float = 0.0
    unchanged: float = 0.0
    budget_used: float = 0.0
    budget: float = 0.0
    orders: dict[str, float] = field(default_factory=dict)
    requests: dict[str, float] = field(default_factory=dict)


def scrape(url: str) -> Figures | None:
    """The figures now, or None where the daemon does not answer."""
    try:
        answer = httpx.get(url, timeout=SCRAPE_TIMEOUT_SECS, trust_env=False)
        answer.raise_for_status()
    except httpx.HTTPError:
        return None
    return read(answer.text)


def read(text: str) -> Figures:
    """The figures of one exposition in Prometheus' text format."""
    sums: defaultdict[str, float] = defaultdict(float)
    orders: defaultdict[str, float] = defaultdict(float)
    requests: defaultdict[str, float] = defaultdict(float)
    buckets: defaultdict[float, float] = defaultdict(float)
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            name = sample.name.removeprefix("order_sync_")
            labels = sample.labels
            sums[name] += sample.value
            if name == "messages_total" and labels["outcome"] == "folded":
                sums["folded"] += sample.value
            elif name == "orders":
                orders[labels["state"]] += sample.value
            elif name == "requests_total":
                requests[labels["verdict"]] += sample.value
            elif name == "oldest_owed_age_seconds" and labels["lane"] == "live":
                sums["oldest_live"] = max(sums["oldest_live"], sample.value)
            elif name == "freshness_seconds_bucket" and labels["lane"] == "live":
                buckets[float(labels["le"])] += sample.value
    return Figures(
        lag_messages=sums["consumer_lag_messages"],
        folded=sums["folded"],
        freshness_p50_secs=quantile(buckets, 0.5),
        freshness_p95_secs=quantile(buckets, 0.95),
        oldest_owed_secs=sums["oldest_live"],
        accepted=sums["accepted_orders_total"],
        unchanged=sums["unchanged_orders_total"],
        budget_used=sums["budget_used_bytes"],
        budget=sums["budget_bytes"],
        orders=dict(orders),
        requests=dict(requests),
    )


def quantile(buckets: dict[float, float], share: float) -> float | None:
    """The quantile of a histogram's cumulative buckets, linear within one; None where nothing was observed."""
    bounds = sorted(buckets)
    if not bounds or not buckets[bounds[-1]]:
        return None
    wanted = share * buckets[bounds[-1]]
    lower, before = 0.0, 0.0
    for bound in bounds:
        count = buckets[bound]
        if count >= wanted:
            if bound == float("inf"):
                return lower
            return lower + (bound - lower) * (wanted - before) / (count - before)
        lower, before = bound, count
    return lower
