"""Each alert by promtool, over series of the recorded scrape: it fires, it does not, and says nothing about nothing."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from chart.rules import ALERTS, KNOBS, rules
from prometheus_client.parser import text_string_to_metric_families
from prometheus_rig import JOB, RECORDED, UNITS

# What Prometheus itself adds to a series.
SCRAPED = {"job": JOB, "pod": "shop-1", "instance": "10.0.0.1:9108"}
DEMO = '{destination="demo"}'
OF_DEMO = {"destination": "demo"}
LATE = 'order_sync_freshness_seconds_bucket{destination="demo",lane="live",le="900.0"}'
CHANGES = 'order_sync_freshness_seconds_count{destination="demo",lane="live"}'
QUARANTINED = 'order_sync_orders{destination="demo",state="quarantined"}'
LOOK, STEP = 180, 5  # minutes
Values = Mapping[str, str]


def _minutes(duration: str) -> int:
    return int(duration[:-1]) * UNITS[duration[-1]] // 60


@dataclass(frozen=True)
class Case:
    """Series by name with their values, one a minute, in promtool's notation.

    With `fires` it becomes true at minute `since`, and is over at minute `over` where that is given. With each of
    `quiet` it never fires within LOOK minutes.
    """

    fires: Values
    quiet: tuple[Values, ...]
    since: int = 0
    over: int | None = None
    labels: Values = field(default_factory=dict)


def _one(series: str, bad: str, good: str, labels: Values | None = None) -> Case:
    """A value that is above or at the threshold all the time."""
    return Case({series: f"{bad}x300"}, ({series: f"{good}x300"},), labels=OF_DEMO if labels is None else labels)


def _oldest(lane: str) -> str:
    return f'order_sync_oldest_owed_age_seconds{{destination="demo",lane="{lane}"}}'


def _holds(hold: str) -> str:
    return f'order_sync_hold_age_seconds{{destination="demo",hold="{hold}"}}'


def _burns(late_of_100: int, at_most: int) -> Case:
    """So many of a hundred changes a minute are late; the others are not."""
    fires = {LATE: f"0+{100 - late_of_100}x300", CHANGES: "0+100x300"}
    quiet = {LATE: f"0+{100 - at_most}x300", CHANGES: "0+100x300"}
    nothing = {LATE: "5x300", CHANGES: "5x300"}  # a night without an order
    return Case(fires, (quiet, nothing), since=1, labels=OF_DEMO)


REJECTS = 'order_sync_rejects_total{reason="not_json",topic="oms.public.orders"}'
CASES = {
    "OrderSyncAbsent": Case({}, ({"order_sync_build_info": "1x300"},), labels={"job": JOB}),
    "OrderSyncLiveOrdersStale": _one(_oldest("live"), "1801", "1800", {"destination": "demo", "lane": "live"}),
    "OrderSyncBackfillOrdersStale": _one(
        _oldest("backfill"), "172801", "172800", {"destination": "demo", "lane": "backfill"}
    ),
    "OrderSyncFreshnessBudgetBurnsFast": _burns(15, 14),
    "OrderSyncFreshnessBudgetBurnsSlowly": _burns(7, 5),
    "OrderSyncNoLeader": _one(f"order_sync_leader{DEMO}", "0", "1"),
    "OrderSyncDestinationHalted": _one(f"order_sync_destination_halted{DEMO}", "1", "0"),
    "OrderSyncCircuitOpen": _one(f"order_sync_circuit_open{DEMO}", "1", "0"),
    # Eleven within an hour; ten; or many that were there before.
    "OrderSyncQuarantineGrowing": Case(
        {QUARANTINED: "0x119 11x300"},
        ({QUARANTINED: "0x119 10x300"}, {QUARANTINED: "0+0.1x300"}),
        since=120,
        over=180,
        labels=OF_DEMO,
    ),
    "OrderSyncGuardHolding": _one('order_sync_orders{destination="demo",state="guarded"}', "1", "0"),
    "OrderSyncHeldLong": Case(
        {_holds("paused"): "21601x300"},
        ({_holds("paused"): "21600x300"}, {_holds("shadow"): "999999x300"}, {_holds("guarded"): "999999x300"}),
        labels={"destination": "demo", "hold": "paused"},
    ),
    "OrderSyncEraBegun": Case({"order_sync_era": "1x119 2x300"}, ({"order_sync_era": "0x300"},), since=120, over=180),
    "OrderSyncLostOrders": _one('order_sync_orders{destination="demo",state="lost"}', "1", "0"),
    "OrderSyncDrift": _one('order_sync_drift_orders{destination="demo",kind="missing"}', "1", "0"),
    "OrderSyncSourceHalted": _one(
        'order_sync_source_halted{reason="rejects",source="orders"}',
        "1",
        "0",
        {"source": "orders", "reason": "rejects"},
    ),
    "OrderSyncRejects": Case(
        {REJECTS: "0x59 1x300"}, ({REJECTS: "7x300"},), since=60, over=75, labels={"topic": "oms.public.orders"}
    ),
    "OrderSyncIngestBehind": _one(
        'order_sync_consumer_lag_seconds{topic="oms.public.orders"}', "901", "900", {"topic": "oms.public.orders"}
    ),
    "OrderSyncTopicMissing": _one(
        'order_sync_topic_missing{topic="oms.public.orders"}', "1", "0", {"topic": "oms.public.orders"}
    ),
    "OrderSyncKafkaTrouble": _one('order_sync_kafka_trouble{kind="read"}', "1", "0", {"kind": "read"}),
    "OrderSyncDeliveryGated": _one("order_sync_gate_targets", "1", "0", {}),
    "OrderSyncNotReady": _one(
        'order_sync_loop_ready{loop="ingest"}',
        "0",
        "1",
        {"loop": "ingest", "pod": SCRAPED["pod"], "instance": SCRAPED["instance"]},
    ),
}


def _recorded() -> dict[str, dict[str, str]]:
    """Name and labels, as a case writes them, of every recorded series; a process tells of itself what it is."""
    found = {}
    for family in text_string_to_metric_families(RECORDED.read_text(encoding="utf-8")):
        for sample in family.samples:
            labels = {} if sample.name == "order_sync_build_info" else sample.labels
            found[_written(sample.name, labels)] = sample.labels
    return found


def _written(name: str, labels: Mapping[str, str]) -> str:
    inside = ",".join(f'{label}="{value}"' for label, value in sorted(labels.items()))
    return f"{name}{{{inside}}}" if labels else name


SHOWN = _recorded()


def _input(values: Values) -> list[dict[str, str]]:
    """For promtool. KeyError for a series that was not recorded."""
    made = []
    for series, numbers in values.items():
        name = series.partition("{")[0]
        made.append({"series": _written(name, SHOWN[series] | SCRAPED), "values": numbers})
    return made


def _firing(name: str, minute: int, labels: Values | None) -> dict[str, Any]:
    """At that minute exactly one of this name fires, with these labels; with None, none does."""
    samples = []
    if labels is not None:
        known = {"alertname": name, "alertstate": "firing", "severity": KNOBS[name]["severity"], **labels}
        samples = [{"labels": _written("ALERTS", known), "value": 1}]
    return {
        "expr": f'ALERTS{{alertname="{name}", alertstate="firing"}}',
        "eval_time": f"{minute}m",
        "exp_samples": samples,
    }


def _tests(name: str, case: Case) -> list[dict[str, Any]]:
    held = _minutes(KNOBS[name]["for"])
    fires = [_firing(name, case.since + held, case.labels)]
    if case.since + held:
        fires.append(_firing(name, case.since + held - 1, None))
    if case.over is not None:
        fires += [_firing(name, case.over - 1, case.labels), _firing(name, case.over, None)]
    tests = [{"interval": "1m", "input_series": _input(case.fires), "promql_expr_test": fires}]
    nothing = [] if name == "OrderSyncAbsent" else [{}]
    for quiet in (*case.quiet, *nothing):
        looks = [_firing(name, minute, None) for minute in range(0, LOOK, STEP)]
        tests.append({"interval": "1m", "input_series": _input(quiet), "promql_expr_test": looks})
    return tests


def test_every_alert_has_a_case() -> None:
    """In the order of the file."""
    assert list(CASES) == list(ALERTS)


@pytest.mark.parametrize("name", CASES)
def test_it_fires_when_it_should_and_only_then(name: str, tmp_path: Path) -> None:
    """After its `for` and no minute sooner, with its labels; not at the threshold; not where no series is there."""
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed; it comes with the package prometheus")
    [rule] = [one for one in rules(JOB) if one["alert"] == name]
    (tmp_path / "rules.json").write_text(json.dumps({"groups": [{"name": "one", "rules": [rule]}]}))
    tests = {"rule_files": ["rules.json"], "evaluation_interval": "1m", "tests": _tests(name, CASES[name])}
    (tmp_path / "tests.json").write_text(json.dumps(tests))
    done = subprocess.run(
        [promtool, "test", "rules", "tests.json"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, re.sub(r"\n\s*\n+", "\n", done.stdout + done.stderr)
