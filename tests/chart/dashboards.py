"""The dashboards of the chart: rows follow the data path; every panel has a unit, a sentence and a runbook entry."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

WIDTH, HEIGHT = 24, 7
RATE = "$__rate_interval"


@dataclass(frozen=True)
class Panel:
    """One panel. `queries` are (expression, legend); `runbook` is the alert whose entry helps."""

    title: str
    sentence: str
    unit: str
    runbook: str
    queries: tuple[tuple[str, str], ...]
    kind: str = "timeseries"


@dataclass(frozen=True)
class Row:
    """Panels side by side under a title."""

    title: str
    panels: tuple[Panel, ...]


def _quantile(share: float, metric: str, by: str, where: str) -> str:
    return f"histogram_quantile({share}, sum by (le, {by}) (rate({metric}_bucket{{{where}}}[{RATE}])))"


# A panel shows one release, by its scrape job.
SELECT = 'job="$job"'
LIVE = f'{SELECT}, lane="live"'
IN_TIME = (
    f'sum by (destination) (rate(order_sync_freshness_seconds_bucket{{{LIVE}, le=~"@within@([.]0)?"}}[1h]))'
    f" / sum by (destination) (rate(order_sync_freshness_seconds_count{{{LIVE}}}[1h]))"
)
BUDGET_USED = (
    f"max by (destination) (order_sync_budget_used_bytes{{{SELECT}}})"
    f" / max by (destination) (order_sync_budget_bytes{{{SELECT}}})"
)
BATCH_MEAN = (
    f"sum(rate(order_sync_fold_batch_messages_sum{{{SELECT}}}[{RATE}]))"
    f" / sum(rate(order_sync_fold_batch_messages_count{{{SELECT}}}[{RATE}]))"
)
OWED = f'max by (destination, state) (order_sync_orders{{{SELECT}, state=~"owed_.*|in_flight"}})'


def _fresh(lane: str) -> Panel:
    where = f'{SELECT}, lane="{lane}"'
    return Panel(
        f"Change to acceptance, {lane} lane",
        f"Time from the OMS commit of an order's first unsent change to its acceptance, {lane} lane.",
        "s",
        "OrderSyncFreshnessBudgetBurnsFast",
        tuple(
            (
                _quantile(share, "order_sync_freshness_seconds", "destination", where),
                f"{{{{destination}}}} p{share:.0%}",
            )
            for share in (0.5, 0.95, 0.99)
        ),
    )


def _gauge(title: str, sentence: str, unit: str, runbook: str, metric: str, by: str, how: str = "max") -> Panel:
    expression = f"{how} by ({by}) ({metric}{{{SELECT}}})"
    return Panel(title, sentence, unit, runbook, ((expression, _legend(by)),))


def _rate(title: str, sentence: str, unit: str, runbook: str, metric: str, by: str) -> Panel:
    return Panel(
        title, sentence, unit, runbook, ((f"sum by ({by}) (rate({metric}{{{SELECT}}}[{RATE}]))", _legend(by)),)
    )


def _legend(by: str) -> str:
    return " ".join(f"{{{{{label.strip()}}}}}" for label in by.split(","))


def _stat(title: str, sentence: str, unit: str, runbook: str, expression: str, legend: str) -> Panel:
    return Panel(title, sentence, unit, runbook, ((expression, legend),), "stat")


OLDEST = _gauge(
    "Oldest unsent order",
    "Time since the first unsent change of the oldest order that is owed to Northbeam, by lane: the headline.",
    "s",
    "OrderSyncLiveOrdersStale",
    "order_sync_oldest_owed_age_seconds",
    "destination, lane",
)
ACCEPTED = _rate(
    "Orders accepted",
    "Orders that the API accepted, per second.",
    "ops",
    "OrderSyncLiveOrdersStale",
    "order_sync_accepted_orders_total",
    "destination",
)
CIRCUIT = _gauge(
    "Vendor taken to be down",
    "1 while requests fail in a row and the API is only tried with small batches.",
    "short",
    "OrderSyncCircuitOpen",
    "order_sync_circuit_open",
    "destination",
)
VERDICTS = _rate(
    "Requests by verdict",
    "Requests to the Orders API per second, by what they came to.",
    "reqps",
    "OrderSyncCircuitOpen",
    "order_sync_requests_total",
    "destination, verdict",
)
LAG_SECONDS = _gauge(
    "Behind Kafka, in time",
    "How long a topic has had messages that are not folded yet.",
    "s",
    "OrderSyncIngestBehind",
    "order_sync_consumer_lag_seconds",
    "topic",
)
FOLD_RETRIES = Panel(
    "Folds done again",
    "Fold transactions that Postgres rolled back, per second.",
    "ops",
    "OrderSyncIngestBehind",
    ((f"sum(rate(order_sync_fold_retries_total{{{SELECT}}}[{RATE}]))", "folds"),),
)
FOLD_TIME = Panel(
    "Fold time",
    "Time of one fold transaction, from staging to commit.",
    "s",
    "OrderSyncIngestBehind",
    tuple(
        (
            f"histogram_quantile({share}, sum by (le) (rate(order_sync_fold_seconds_bucket{{{SELECT}}}[{RATE}])))",
            f"p{share:.0%}",
        )
        for share in (0.5, 0.99)
    ),
)
REQUEST_TIME = Panel(
    "Request time",
    "Time of one request to the Orders API, from its start to its answer or end.",
    "s",
    "OrderSyncCircuitOpen",
    tuple(
        (_quantile(share, "order_sync_request_seconds", "destination", SELECT), f"{{{{destination}}}} p{share:.0%}")
        for share in (0.5, 0.95, 0.99)
    ),
)
BUDGET = Panel(
    "Budget used",
    "Share of the byte budget of the current window that requests have used up.",
    "percentunit",
    "OrderSyncLiveOrdersStale",
    ((BUDGET_USED, "{{destination}}"),),
)
READY = _gauge(
    "Loops that get on",
    "1 while a loop of a pod can do its work; /readyz says why where it cannot.",
    "short",
    "OrderSyncNotReady",
    "order_sync_loop_ready",
    "instance, loop",
    "min",
)
QUARANTINED = _rate(
    "Orders refused",
    "Orders put into quarantine per second, by reason.",
    "ops",
    "OrderSyncQuarantineGrowing",
    "order_sync_quarantined_total",
    "destination, reason",
)

HOLDS = _gauge(
    "What holds due orders, and for how long",
    "Time for which something named has kept due orders from being sent; 0 while it does not.",
    "s",
    "OrderSyncHeldLong",
    "order_sync_hold_age_seconds",
    "destination, hold",
)
ERA = Panel(
    "Eras",
    "How often the state went back to an earlier one: a restore, or a stand-by that took over.",
    "short",
    "OrderSyncEraBegun",
    ((f"max(order_sync_era{{{SELECT}}})", "era"), (f"max(order_sync_era_replaying{{{SELECT}}})", "Kafka read again")),
)


def _orders(title: str, sentence: str, runbook: str, state: str) -> Panel:
    expression = f'max by (destination) (order_sync_orders{{{SELECT}, state="{state}"}})'
    return _stat(title, sentence, "short", runbook, expression, "{{destination}}")


OVERVIEW = (
    Row(
        "Are my orders in Northbeam?",
        (
            _stat(
                "Oldest unsent live order",
                "How far Northbeam is behind the shop for changes of now.",
                "s",
                "OrderSyncLiveOrdersStale",
                f'max by (destination) (order_sync_oldest_owed_age_seconds{{{SELECT}, lane="live"}})',
                "{{destination}}",
            ),
            _stat(
                "Accepted in time",
                "Share of the last hour's live changes that were accepted within @within@ s; wanted: @objective@.",
                "percentunit",
                "OrderSyncFreshnessBudgetBurnsFast",
                IN_TIME,
                "{{destination}}",
            ),
            _stat(
                "Orders owed",
                "Orders that changed and are not accepted yet.",
                "short",
                "OrderSyncLiveOrdersStale",
                f"sum by (destination) ({OWED})",
                "{{destination}}",
            ),
            ACCEPTED,
        ),
    ),
    Row("How fresh are they?", (OLDEST, _fresh("live"), _fresh("backfill"))),
    Row(
        "What is stuck, and why?",
        (
            _gauge(
                "Orders that are not clean",
                "Owed, in flight, waiting for a row, held by the mapping, or refused.",
                "short",
                "OrderSyncLiveOrdersStale",
                "order_sync_orders",
                "destination, state",
            ),
            _gauge(
                "Destination halted",
                "1 while nothing is sent for a fault of ours: the key, or the mapping.",
                "short",
                "OrderSyncDestinationHalted",
                "order_sync_destination_halted",
                "destination",
            ),
            CIRCUIT,
            QUARANTINED,
            HOLDS,
            _orders(
                "Held by the void guard",
                "Orders that would go from a total to 0 in a mass, and are held until a person decides.",
                "OrderSyncGuardHolding",
                "guarded",
            ),
            _orders(
                "Lost with an era",
                "Orders that may stand at the API and that the state, which went back, does not know any more.",
                "OrderSyncLostOrders",
                "lost",
            ),
            ERA,
            _gauge(
                "Drift",
                "Orders that the newest reconcile found not to be at the API as it accepted them.",
                "short",
                "OrderSyncDrift",
                "order_sync_drift_orders",
                "destination, kind",
            ),
            _gauge(
                "Source halted",
                "1 while a table's changes are not read any more and a person is needed.",
                "short",
                "OrderSyncSourceHalted",
                "order_sync_source_halted",
                "source, reason",
            ),
        ),
    ),
)

PIPELINE = (
    Row(
        "Freshness",
        (OLDEST, _fresh("live")),
    ),
    Row(
        "Ingest",
        (
            _rate(
                "Messages by outcome",
                "Kafka messages per second by what became of them.",
                "ops",
                "OrderSyncRejects",
                "order_sync_messages_total",
                "topic, outcome",
            ),
            LAG_SECONDS,
            Panel(
                "Behind Kafka, in messages",
                "Messages in Kafka that are not folded yet.",
                "short",
                "OrderSyncIngestBehind",
                ((f"sum by (topic) (order_sync_consumer_lag_messages{{{SELECT}}})", "{{topic}}"),),
            ),
            _rate(
                "Rejects",
                "Messages per second that could not be decoded, by reason.",
                "ops",
                "OrderSyncRejects",
                "order_sync_rejects_total",
                "topic, reason",
            ),
            _rate(
                "Oddities",
                "Harmless surprises in messages and documents per second.",
                "ops",
                "OrderSyncRejects",
                "order_sync_oddities_total",
                "reason",
            ),
        ),
    ),
    Row(
        "Fold and schedule",
        (
            FOLD_TIME,
            Panel(
                "Batch size",
                "Messages in one fold transaction.",
                "short",
                "OrderSyncIngestBehind",
                ((BATCH_MEAN, "mean"),),
            ),
            FOLD_RETRIES,
            Panel(
                "Delivery gated",
                "Partitions that hold delivery until they have caught up.",
                "short",
                "OrderSyncDeliveryGated",
                ((f"max(order_sync_gate_targets{{{SELECT}}})", "partitions"),),
            ),
        ),
    ),
    Row(
        "Deliver",
        (
            VERDICTS,
            REQUEST_TIME,
            BUDGET,
            _rate(
                "Bytes sent",
                "Bytes of request bodies per second.",
                "Bps",
                "OrderSyncLiveOrdersStale",
                "order_sync_request_bytes_total",
                "destination",
            ),
            ACCEPTED,
            _rate(
                "Orders unchanged",
                "Due orders per second whose document is the accepted one: settled without a request.",
                "ops",
                "OrderSyncLiveOrdersStale",
                "order_sync_unchanged_orders_total",
                "destination",
            ),
            QUARANTINED,
            HOLDS,
        ),
    ),
    Row(
        "Parked and guarded",
        (
            _rate(
                "Orders parked",
                "Orders per second that could be sent and are held by mode, backfill or void guard.",
                "ops",
                "OrderSyncGuardHolding",
                "order_sync_parked_total",
                "destination, hold",
            ),
            _gauge(
                "Parked documents",
                "Bytes of the documents of parked orders: what asking for them would send.",
                "bytes",
                "OrderSyncGuardHolding",
                "order_sync_parked_bytes",
                "destination, hold",
            ),
            _gauge(
                "Zeroed within the hour",
                "Orders that may have gone from a total to 0 in the last hour: what the void guard counts.",
                "short",
                "OrderSyncGuardHolding",
                "order_sync_zeroed_orders",
                "destination",
            ),
            Panel(
                "Since the newest reconcile",
                "Time since what the API holds was last compared with what it accepted.",
                "s",
                "OrderSyncDrift",
                (
                    (
                        f"time() - max by (destination) (order_sync_drift_checked_timestamp_seconds{{{SELECT}}})",
                        "{{destination}}",
                    ),
                ),
            ),
        ),
    ),
    Row(
        "Processes",
        (
            READY,
            _gauge(
                "Who delivers",
                "1 for the pod that holds the destination's lease.",
                "short",
                "OrderSyncNoLeader",
                "order_sync_leader",
                "instance, destination",
            ),
            _gauge(
                "Mode",
                "1 for the mode that the settings give the destination.",
                "short",
                "OrderSyncHeldLong",
                "order_sync_delivery_mode",
                "destination, mode",
            ),
            ERA,
            _gauge(
                "Versions",
                "Pods by program and mapping; two mappings at once only during a roll-out.",
                "short",
                "OrderSyncAbsent",
                "order_sync_build_info",
                "version, mapping",
                "count",
            ),
        ),
    ),
)

DEPENDENCIES = (
    Row(
        "Kafka",
        (
            _gauge(
                "Kafka keeps something from us",
                "Topics, or 1, that Kafka does not give us for now, by kind.",
                "short",
                "OrderSyncKafkaTrouble",
                "order_sync_kafka_trouble",
                "kind",
            ),
            _gauge(
                "Topic missing",
                "1 while a topic of the mapping is not there.",
                "short",
                "OrderSyncTopicMissing",
                "order_sync_topic_missing",
                "topic",
            ),
            LAG_SECONDS,
        ),
    ),
    Row(
        "Postgres",
        (
            FOLD_TIME,
            FOLD_RETRIES,
            _gauge(
                "Ingest paused",
                "1 while ingest has stopped fetching, mostly because Postgres is away.",
                "short",
                "OrderSyncNotReady",
                "order_sync_ingest_paused",
                "instance",
            ),
            READY,
            Panel(
                "Old requests removed",
                "Partitions of old requests that were dropped within a day; each holds 100,000 requests.",
                "short",
                "OrderSyncNotReady",
                ((f"sum(increase(order_sync_request_partitions_dropped_total{{{SELECT}}}[1d]))", "partitions"),),
            ),
            Panel(
                "Age of the era",
                "Time since the state last went back; since it was made, where it never did.",
                "s",
                "OrderSyncEraBegun",
                ((f"max(order_sync_era_age_seconds{{{SELECT}}})", "age"),),
            ),
        ),
    ),
    Row("Orders API", (REQUEST_TIME, VERDICTS, CIRCUIT, BUDGET)),
)

BOARDS = {
    "overview": ("Order sync: overview", OVERVIEW),
    "pipeline": ("Order sync: pipeline", PIPELINE),
    "dependencies": ("Order sync: dependencies", DEPENDENCIES),
}


def dashboards() -> dict[str, dict[str, Any]]:
    """Each dashboard as Grafana reads it, by file name."""
    return {name: _board(name, title, rows) for name, (title, rows) in BOARDS.items()}


def _board(name: str, title: str, rows: Iterable[Row]) -> dict[str, Any]:
    panels: list[dict[str, Any]] = []
    top = 0
    for row in rows:
        panels.append(
            {
                "id": len(panels) + 1,
                "type": "row",
                "title": row.title,
                "collapsed": False,
                "panels": [],
                "gridPos": {"h": 1, "w": WIDTH, "x": 0, "y": top},
            }
        )
        top += 1
        for start in range(0, len(row.panels), 4):
            line = row.panels[start : start + 4]
            width = WIDTH // len(line)
            for place, panel in enumerate(line):
                where = {"h": HEIGHT, "w": width, "x": place * width, "y": top}
                panels.append({"id": len(panels) + 1, **_panel(panel), "gridPos": where})
            top += HEIGHT
    return {
        "uid": f"order-sync-{name}",
        "title": title,
        "tags": ["order-sync"],
        "schemaVersion": 39,
        "editable": False,
        "timezone": "browser",
        "time": {"from": "now-6h", "to": "now"},
        "refresh": "1m",
        "templating": {"list": [_datasource(), _job()]},
        "links": [
            {"type": "dashboards", "title": "order-sync", "tags": ["order-sync"], "asDropdown": False, "keepTime": True}
        ],
        "panels": panels,
    }


def _panel(panel: Panel) -> dict[str, Any]:
    return {
        "type": panel.kind,
        "title": panel.title,
        "description": panel.sentence,
        "datasource": {"type": "prometheus", "uid": "${datasource}"},
        "links": [{"title": "Runbook", "url": f"@runbook@#{panel.runbook.lower()}", "targetBlank": True}],
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "targets": [
            {"refId": chr(ord("A") + number), "expr": expression, "legendFormat": legend}
            for number, (expression, legend) in enumerate(panel.queries)
        ],
    }


def _datasource() -> dict[str, Any]:
    return {"name": "datasource", "label": "Prometheus", "type": "datasource", "query": "prometheus"}


def _job() -> dict[str, Any]:
    return {
        "name": "job",
        "label": "Release",
        "type": "query",
        "datasource": {"type": "prometheus", "uid": "${datasource}"},
        "query": {"query": "label_values(order_sync_build_info, job)", "refId": "job"},
        "refresh": 2,
        "sort": 1,
    }
