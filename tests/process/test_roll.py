"""A rolling deploy under traffic: a second process brings the next mapping, the first one makes room for it."""

from __future__ import annotations

import itertools
import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer
from daemon_rig import KEY_VARIABLE, Replica
from fixtures.kafka_server import KafkaNode
from fixtures.postgres import Database
from fixtures.sandbox import RunningSandbox
from ingest_rig import QUIET
from kill_rig import SCALED

from daemon.demo.process import Child
from daemon.demo.stack import CLIENT_PROPERTIES

# The light broker forgets a member that joins while another one leaves.
pytestmark = [pytest.mark.postgres, pytest.mark.apache_kafka]

TIMEOUT = 90
TABLES = ("orders", "order_lines", "customers")
PARTITIONS = 3
HOT = range(1, 21)  # change all the time
LINKED = range(21, 31)  # do not change, but name a customer
COLD = range(31, 61)  # do not change and name nobody
CUSTOMERS = 5
EDITS = 1000  # of each customer, before anybody reads them
BEFORE = """
version: 1
root: orders
debezium: {decimal_handling_mode: string}
sources:
  orders:
    topic: TOPIC-orders
    key: [id]
    types: {total: "numeric(12,2)"}
    many:
      lines: {source: order_lines, match: {order_id: id}, sort: id}
  order_lines:
    topic: TOPIC-order_lines
    key: [id]
document:
  order_id: order.number
  customer_id: coalesce(text(order.customer_id), 'guest')
  time_of_purchase: iso(order.placed_at)
  currency: "'EUR'"
  purchase_total: order.total
  tax: 0
  shipping_cost: 0
  order_tags: "['before']"
  products:
    for: {l: order.lines}
    item: {id: text(l.id), name: l.title, quantity: l.quantity, price: 1}
"""
AFTER = (
    BEFORE.replace(
        "    many:\n",
        """
    defaults: {channel: "'store'"}
    one:
      customer: {source: customers, match: {id: customer_id}}
    many:
""",
        1,
    )
    .replace("document:\n", "  customers:\n    topic: TOPIC-customers\n    key: [id]\ndocument:\n")
    .replace("\"['before']\"\n", "\"['after', order.channel]\"\n  customer_email: order.customer.email\n")
)


def email(customer: int, edit: int) -> str:
    """The customer's address after that many edits."""
    return f"customer{customer}.{edit}@example.com"


@dataclass
class Oms:
    """Produces what Debezium would write. `sent` counts messages by topic and partition, `totals` are the latest."""

    bootstrap: str
    names: dict[str, str]
    sent: Counter[tuple[str, int]] = field(default_factory=Counter)
    totals: dict[int, str] = field(default_factory=dict)
    grown: bool = False  # the column orders.channel was added
    _lsn: Iterator[int] = field(default_factory=lambda: itertools.count(1000))

    def __post_init__(self) -> None:
        self._producer = Producer({"bootstrap.servers": self.bootstrap, "linger.ms": 5}, logger=QUIET)

    def flush(self) -> None:
        """Return once the broker has all of it."""
        assert self._producer.flush(TIMEOUT) == 0

    def order(self, number: int, op: str = "u") -> None:
        """An order with a total that it never had before."""
        total = self.totals[number] = f"{next(self._lsn)}.50"
        row: dict[str, Any] = {
            "id": number,
            "number": f"R-{number}",
            "customer_id": None if number in COLD else number % CUSTOMERS,
            "total": total,
            "placed_at": "2026-03-01T08:14:59.274427Z",
        }
        self._send("orders", row | ({"channel": "web"} if self.grown else {}), op)

    def line(self, order: int) -> None:
        """The one line of an order."""
        self._send("order_lines", {"id": order, "order_id": order, "title": "thing", "quantity": 1}, "c")

    def customers(self) -> None:
        """Every customer with the whole history; the last address comes last."""
        for edit in range(EDITS + 1):
            for customer in range(CUSTOMERS):
                self._send("customers", {"id": customer, "email": email(customer, edit)}, "u" if edit else "c")
        self.flush()

    @contextmanager
    def trading(self) -> Iterator[None]:
        """The hot orders change meanwhile, one after the other."""
        stop, failures = threading.Event(), []

        def work() -> None:
            try:
                for number in itertools.cycle(HOT):
                    if stop.wait(0.01):
                        return
                    self.order(number)
                    self.flush()
            except BaseException as error:  # noqa: BLE001 - told to the test
                failures.append(error)

        thread = threading.Thread(target=work)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join(TIMEOUT)
        assert not failures

    def _send(self, table: str, row: dict[str, Any], op: str) -> None:
        lsn, key = next(self._lsn), row["id"]
        source = {
            "connector": "postgresql", "name": "oms", "db": "oms", "schema": "public", "table": table,
            "lsn": lsn, "ts_ms": 1_767_355_200_000 + lsn, "snapshot": "false",
        }  # fmt: skip
        value = {"before": None, "after": row, "op": op, "ts_ms": source["ts_ms"], "source": source}
        topic, partition = self.names[table], key % PARTITIONS
        self._producer.produce(topic, json.dumps(value), json.dumps({"id": key}), partition=partition)
        self.sent[topic, partition] += 1


@dataclass
class Roll:
    """Two replicas of one group and state, each with its mapping, and what they left."""

    oms: Oms
    database: Database
    sandbox: RunningSandbox
    home: Path

    def replica(self, name: str, mapping: str) -> Replica:
        """A replica with a home of its own."""
        for table, topic in self.oms.names.items():
            mapping = mapping.replace(f"TOPIC-{table}\n", f"{topic}\n")
        home = self.home / name
        home.mkdir()
        (home / "mapping.yaml").write_text(mapping, encoding="utf-8")
        return Replica(
            home,
            {
                **SCALED,
                # Due as soon as it changes, and folded in small steps: what is read half would be sent half.
                "debounce": {"quiet_secs": 0, "max_wait_secs": 0},
                "mapping": "mapping.yaml",
                "kafka": {
                    "bootstrap_servers": self.oms.bootstrap,
                    "group_id": self.oms.names["orders"],
                    "batch_max_messages": 100,
                    "topic_refresh_secs": 1,
                    "properties": CLIENT_PROPERTIES,
                },
                "postgres": {"dsn": self.database.settings.dsn},
                "destinations": {
                    "test": {
                        "base_url": self.sandbox.url,
                        "client_id": self.sandbox.client_id,
                        "live_since": "1970-01-01",
                        "api_key_env": KEY_VARIABLE,
                    }
                },
            },
        )

    def ask(self, statement: str) -> list[Any]:
        """All rows of a statement over the state."""
        with closing(self.database.connect()) as connection:
            return connection.execute(statement).fetchall()

    def counted(self) -> dict[tuple[str, int], int]:
        """Messages that the durable counts tell, by topic and partition."""
        found = self.ask(
            "select o.topic, o.partition, p.folded + p.stale + p.skipped from order_sync.kafka_position p"
            " join order_sync.origin o on o.id = p.origin where p.next_offset >= 0"
        )
        return {(topic, partition): count for topic, partition, count in found}

    def owed(self) -> int:
        """How many orders are owed a delivery."""
        return len(self.ask("select from order_sync.order_sync where revision > settled_revision"))

    def versions(self, numbers: range) -> dict[int, list[dict[str, Any]]]:
        """All documents that the API accepted of these orders, oldest first."""
        return {n: [version.document for version in self.sandbox.admin.versions(f"R-{n}")] for n in numbers}


@pytest.fixture
def roll(
    tmp_path: Path, database: Database, kafka: KafkaNode, kafka_topics: Callable[..., str], sandbox: RunningSandbox
) -> Roll:
    """Topics with orders, their lines and the customers' history; no process yet."""
    oms = Oms(kafka.bootstrap, {table: kafka_topics(table, partitions=PARTITIONS) for table in TABLES})
    for number in (*HOT, *LINKED, *COLD):
        oms.order(number, "c")
        oms.line(number)
    oms.customers()
    return Roll(oms, database, sandbox, tmp_path)


def test_the_next_mapping_takes_over_under_traffic(roll: Roll, eventually: Callable[..., None]) -> None:
    """The older process ends by itself with 0 and does not come back; the newer one reads the added source from its
    beginning while delivery is held; orders touched since are those of the new mapping, others are not sent again.
    """
    old, new = roll.replica("old", BEFORE), roll.replica("new", AFTER)
    with ExitStack() as parts:
        migration = started(parts, old, "migrate")
        assert migration.wait(TIMEOUT) == 0, migration.failure("migrate")
        first = started(parts, old, "run")
        with roll.oms.trading():
            everything = len(HOT) + len(LINKED) + len(COLD)
            eventually(lambda: len(roll.sandbox.admin.orders()) == everything, timeout=TIMEOUT, what="all orders")
            roll.oms.grown = True
            second = started(parts, new, "run")
            assert first.wait(TIMEOUT) == 0, first.failure("superseded")
            again = started(parts, old, "run")
            assert again.wait(TIMEOUT) == 2, again.failure("the older mapping again")
            eventually(lambda: bool(new.get("/readyz")), timeout=TIMEOUT, what="the new process to be ready")
            seen = roll.sandbox.admin.stats()["accepted_orders"]
            roll.sandbox.admin.wait("accepted_orders", least=seen + 2 * len(HOT), timeout_secs=TIMEOUT)
        eventually(lambda: roll.counted() == roll.oms.sent, timeout=TIMEOUT, what="every message to be counted")
        eventually(lambda: not roll.owed(), timeout=TIMEOUT, what="every order to be accepted")
        free = "ingest has caught up, delivery goes on"
        eventually(lambda: free in names(new), timeout=TIMEOUT, what="the word that delivery goes on")
        assert second.returncode is None
    hot, linked, cold = (roll.versions(numbers) for numbers in (HOT, LINKED, COLD))
    for number, documents in {**hot, **linked}.items():
        addresses = [document.get("customer_email") for document in documents if document["order_tags"][0] == "after"]
        assert addresses, f"R-{number} was never sent under the new mapping"
        assert set(addresses) == {email(number % CUSTOMERS, EDITS)}, f"R-{number} was sent half read"
        assert float(documents[-1]["purchase_total"]) == float(roll.oms.totals[number])
        tags = [document["order_tags"][0] for document in documents]
        assert tags == sorted(tags, reverse=True), f"R-{number} went back to the older mapping"
    assert {tuple(documents[-1]["order_tags"]) for documents in hot.values()} == {("after", "web")}
    assert {tuple(documents[-1]["order_tags"]) for documents in linked.values()} == {("after", "store")}
    assert [len(documents) for documents in cold.values()] == [1] * len(COLD)
    assert "order-sync migrate" in old.said
    assert names(old) >= {"superseded", "stopped"}
    assert "delivery is held until ingest has caught up" in names(new)
    assert not [event for event in new.events() if event["level"] == "error"]


def started(parts: ExitStack, replica: Replica, command: str) -> Child:
    """A command that runs; ended with the test."""
    child = replica.start(command)
    parts.callback(child.end)
    return child


def names(replica: Replica) -> set[str]:
    """The events that a replica logged."""
    return {event["event"] for event in replica.events()}
