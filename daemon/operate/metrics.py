"""Every metric of the daemon, declared once: the class body of `Metrics` is the table.

Labels are closed sets or names that the settings and the mapping fix (topics, partitions, sources, destinations);
never an order, a key or an error text. All names carry the prefix `order_sync_`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar, overload

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics, generate_latest

PREFIX = "order_sync"

Kind = TypeVar("Kind", Counter, Gauge, Histogram)
Labels = Mapping[str, str]

# A fold takes ms to seconds; a request at most its deadline (30 s); freshness reaches from the debounce to a backfill.
FOLD_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
BATCH_BUCKETS = (1, 5, 25, 100, 250, 500, 1000, 2500, 5000, 10000)
REQUEST_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0)
FRESHNESS_BUCKETS = (1, 5, 15, 30, 60, 90, 120, 180, 300, 600, 900, 1800, 3600, 7200, 21600, 86400)

TOPIC = "topic of the mapping"
DESTINATION = "destination of the settings"
LANE = "live | backfill"
PARKED = "shadow | backfill | guarded"
REJECT_REASONS = "not_json | not_avro | not_debezium | no_key | bad_value | undeclared_type"


@dataclass(frozen=True)
class Declaration:
    """What a metric is called and means. `labels` says for each label which values it takes."""

    name: str
    kind: str  # counter | gauge | histogram
    unit: str
    meaning: str
    labels: Labels


class Declared(Generic[Kind]):
    """One line of the table. On an instance of `Metrics` it is the prometheus object, on the class itself."""

    def __init__(
        self, build: Callable[[str, Metrics], Kind], kind: str, meaning: str, unit: str, labels: Labels
    ) -> None:
        self._build: Callable[[str, Metrics], Kind] = build
        self._kind, self._meaning, self._unit, self._labels = kind, meaning, unit, labels
        self._name = ""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    @overload
    def __get__(self, instance: None, owner: type) -> Declared[Kind]: ...
    @overload
    def __get__(self, instance: Metrics, owner: type) -> Kind: ...
    def __get__(self, instance: Metrics | None, owner: type) -> Declared[Kind] | Kind:
        if instance is None:
            return self
        # Written past the descriptor: the instance's own attribute is found first from now on.
        built: Kind = self._build(self._name, instance)
        instance.__dict__[self._name] = built
        return built

    def declaration(self) -> Declaration:
        """This line as plain data, with the full name."""
        return Declaration(f"{PREFIX}_{self._name}", self._kind, self._unit, self._meaning, self._labels)


def _counter(meaning: str, unit: str, **labels: str) -> Declared[Counter]:
    def build(name: str, metrics: Metrics) -> Counter:
        return Counter(name, meaning, list(labels), namespace=PREFIX, registry=metrics.registry)

    return Declared(build, "counter", meaning, unit, labels)


def _gauge(meaning: str, unit: str, **labels: str) -> Declared[Gauge]:
    def build(name: str, metrics: Metrics) -> Gauge:
        return Gauge(name, meaning, list(labels), namespace=PREFIX, registry=metrics.registry)

    return Declared(build, "gauge", meaning, unit, labels)


def _histogram(meaning: str, unit: str, buckets: tuple[float, ...], **labels: str) -> Declared[Histogram]:
    def build(name: str, metrics: Metrics) -> Histogram:
        return Histogram(name, meaning, list(labels), namespace=PREFIX, registry=metrics.registry, buckets=buckets)

    return Declared(build, "histogram", meaning, unit, labels)


class Metrics:
    """All metrics of one process, in a registry of their own. Built once, handed to the loops."""

    build_info = _gauge(
        "Always 1; the labels say which program and which mapping run.",
        "1",
        version="version of the program",
        mapping="version of the mapping",
        structure="version of the mapping's structure",
    )
    loop_ready = _gauge(
        "1 while the loop can do its work, as /readyz says; 0 with its reasons there.",
        "1",
        loop="ingest, or 'deliver' and the destination",
    )
    messages_total = _counter(
        "Kafka messages by what became of them.",
        "messages",
        topic=TOPIC,
        op="Debezium's op: c | u | d | r | t | m, 'tombstone' or 'none'",
        outcome="folded | stale | skipped | rejected",
        reason="why it was skipped or rejected, else empty",
    )
    rejects_total = _counter(
        "Messages that could not be decoded and are kept raw.", "messages", topic=TOPIC, reason=REJECT_REASONS
    )
    oddities_total = _counter(
        "Harmless surprises in messages and documents.", "oddities", reason="closed set of decoder and assembler"
    )
    fold_seconds = _histogram("Time of one fold transaction, from staging to commit.", "seconds", FOLD_BUCKETS)
    fold_batch_messages = _histogram("Messages in one fold transaction.", "messages", BATCH_BUCKETS)
    fold_retries_total = _counter("Fold transactions that were rolled back and done again.", "transactions")
    consumer_lag_messages = _gauge(
        "Messages in Kafka that are not folded yet.", "messages", topic=TOPIC, partition="partition number"
    )
    consumer_lag_seconds = _gauge(
        "How long a partition of the topic has had messages that are not folded yet.", "seconds", topic=TOPIC
    )
    source_halted = _gauge(
        "1 while ingest of the source is halted and a person is needed.",
        "1",
        source="source",
        reason="retention | truncated | recreated | compaction | rejects",
    )
    ingest_paused = _gauge("1 while ingest has paused all its partitions.", "1")
    topic_missing = _gauge("1 while a topic of the mapping is not there.", "1", topic=TOPIC)
    kafka_trouble = _gauge(
        "Topics, or 1, that Kafka keeps from us for now.", "1", kind="unreachable | identity | group | describe | read"
    )
    gate_targets = _gauge("Partitions that hold delivery until they have caught up.", "partitions")
    era = _gauge("How often the state went back to an earlier one (restore, fail-over), as far as it knows.", "eras")
    era_age_seconds = _gauge("Time since the state last went back; since it was made, where it never did.", "seconds")
    era_replaying = _gauge("1 while what may have been lost with the last era is read again from Kafka.", "1")
    orders = _gauge(
        "Orders that are not clean, by state.",
        "orders",
        destination=DESTINATION,
        state=f"owed_live | owed_backfill | in_flight | quarantined | waiting | held | lost | {PARKED}",
    )
    parked_total = _counter(
        "Orders that could be sent and were parked instead.", "orders", destination=DESTINATION, hold=PARKED
    )
    parked_bytes = _gauge("Bytes of the documents of parked orders.", "bytes", destination=DESTINATION, hold=PARKED)
    zeroed_orders = _gauge(
        "Orders that may have gone from a total to 0 in the last hour: what the void guard counts.",
        "orders",
        destination=DESTINATION,
    )
    hold_age_seconds = _gauge(
        "How long something has kept due orders from being sent; 0 while it does not.",
        "seconds",
        destination=DESTINATION,
        hold=f"waiting | gate | fence | backoff | limited | paused | halted | {PARKED}",
    )
    delivery_mode = _gauge(
        "1 for the mode that the settings give the destination.",
        "1",
        destination=DESTINATION,
        mode="off | shadow | on",
    )
    oldest_owed_age_seconds = _gauge(
        "Time since the first unsent change of the oldest owed order: the headline.",
        "seconds",
        destination=DESTINATION,
        lane=LANE,
    )
    requests_total = _counter(
        "Requests to the Orders API by verdict.",
        "requests",
        destination=DESTINATION,
        verdict="closed set of delivery verdicts",
    )
    request_seconds = _histogram(
        "Time of one request, from its start to its answer or end.",
        "seconds",
        REQUEST_BUCKETS,
        destination=DESTINATION,
    )
    request_bytes_total = _counter("Bytes of request bodies sent.", "bytes", destination=DESTINATION)
    accepted_orders_total = _counter("Orders that the API accepted.", "orders", destination=DESTINATION)
    unchanged_orders_total = _counter(
        "Due orders whose document equals the last accepted one: settled without a request.",
        "orders",
        destination=DESTINATION,
    )
    budget_used_bytes = _gauge("Bytes that count against the budget now.", "bytes", destination=DESTINATION)
    budget_bytes = _gauge("The budget of one window.", "bytes", destination=DESTINATION)
    freshness_seconds = _histogram(
        "Time from the OMS commit of an order's first unsent change to its acceptance.",
        "seconds",
        FRESHNESS_BUCKETS,
        destination=DESTINATION,
        lane=LANE,
    )
    leader = _gauge("1 while this process delivers to the destination.", "1", destination=DESTINATION)
    destination_halted = _gauge(
        "1 while the destination is halted for a fault of ours (key, mapping).", "1", destination=DESTINATION
    )
    circuit_open = _gauge("1 while the vendor is taken to be down.", "1", destination=DESTINATION)
    drift_orders = _gauge(
        "Orders that the newest reconcile found not to be at the API as it accepted them; absent before the first.",
        "orders",
        destination=DESTINATION,
        kind="missing | extra | different",
    )
    drift_checked_timestamp_seconds = _gauge(
        "When that reconcile ended, in seconds since 1970.", "seconds", destination=DESTINATION
    )
    quarantined_total = _counter(
        "Orders put into quarantine.", "orders", destination=DESTINATION, reason="closed set of quarantine reasons"
    )

    request_partitions_dropped_total = _counter("Partitions of old requests that were dropped.", "partitions")

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # the _created series double a scrape, unread
        self.registry = CollectorRegistry()
        for name in vars(Metrics):
            getattr(self, name)  # builds and registers what is declared

    def exposition(self) -> bytes:
        """The present values in Prometheus' text format."""
        return generate_latest(self.registry)

    @staticmethod
    def declarations() -> list[Declaration]:
        """The table as plain data, in the order of the data path."""
        return [line.declaration() for line in vars(Metrics).values() if isinstance(line, Declared)]
