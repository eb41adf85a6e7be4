"""A shop as its topics tell it, a daemon in a process of its own, and the API's stand-in: for the soaks of delivery."""

from __future__ import annotations

import itertools
import json
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg
from confluent_kafka import Producer
from daemon_rig import KEY_VARIABLE, Replica
from ingest_rig import QUIET

from daemon.demo.process import Child, wait_until
from daemon.demo.stack import CLIENT_PROPERTIES
from daemon.sandbox.client import SandboxAdmin
from daemon.sandbox.options import DEFAULT_CLIENT_ID

TIMEOUT = 300
PARTITIONS = 3
QUEUED = 50_000  # messages that the producer may keep for itself
TABLES = ("orders", "order_lines")
PADDING = "x" * 600  # documents of about a kilobyte, as real ones are
PLACED = "2026-03-01T08:14:59.274427Z"
MAPPING = """
version: 1
root: orders
void: order.status == 'cancelled'
void_tag: Cancelled
on_delete: {on_delete}
debezium: {{decimal_handling_mode: string}}
sources:
  orders:
    topic: {orders}
    key: [id]
    types: {{total: "numeric(12,2)"}}
    many:
      lines: {{source: order_lines, match: {{order_id: id}}, sort: id}}
  order_lines:
    topic: {order_lines}
    key: [id]
document:
  order_id: order.number
  customer_id: "'guest'"
  time_of_purchase: iso(order.placed_at)
  currency: "'EUR'"
  purchase_total: order.total
  tax: 0
  shipping_cost: 0
  products:
    for: {{l: order.lines}}
    item: {{id: text(l.id), name: l.title, quantity: l.quantity, price: 1}}
"""
# Attempts are cleared when an order is accepted: every one that was counted is written down.
WATCH = """
create table attempt_paid (order_key text, reason text);
create function note_attempt() returns trigger language plpgsql as $$
begin
    insert into order_sync.attempt_paid values (old.order_key, new.last_error);
    return null;
end $$;
create trigger note_attempt after update on order_sync for each row
    when (new.attempts > old.attempts) execute function note_attempt();
"""


@dataclass
class Traffic:
    """Produces what Debezium would write. `totals` are the latest by order, None for a deleted one."""

    bootstrap: str
    names: Mapping[str, str]
    totals: dict[int, str | None] = field(default_factory=dict)
    changed_at: dict[int, float] = field(default_factory=dict)
    """When the broker was given the latest change of each order, seconds since 1970."""
    _lsn: Iterator[int] = field(default_factory=lambda: itertools.count(1000))

    def __post_init__(self) -> None:
        self._producer = Producer({"bootstrap.servers": self.bootstrap, "linger.ms": 5}, logger=QUIET)

    def flush(self) -> None:
        """Return once the broker has all of it."""
        assert self._producer.flush(TIMEOUT) == 0

    def order(self, number: int, *, old: bool = False) -> None:
        """An order with its line, and a total that it never had before. `old`: read by a snapshot."""
        op = "r" if old else "c"
        self._send("order_lines", number, {"order_id": number, "title": f"thing {PADDING}", "quantity": 1}, op)
        total = f"{next(self._lsn)}.50"
        row = {"number": f"T-{number}", "total": total, "status": "paid", "placed_at": PLACED}
        self._send("orders", number, row, op)
        self.totals[number], self.changed_at[number] = total, time.time()

    def delete(self, numbers: range) -> None:
        """Delete these orders in one transaction: all changes have its commit time."""
        committed = int(time.time() * 1000)
        for number in numbers:
            self._send("orders", number, None, "d", committed)
            self.totals[number] = None
        self.flush()

    def truncate(self, table: str) -> None:
        """TRUNCATE of a table, as a connector tells it that does not skip it."""
        self._send(table, None, None, "t")
        self.flush()

    @contextmanager
    def steady(self, numbers: Iterator[int], rate: float) -> Iterator[None]:
        """Orders change or come meanwhile, so many each second."""
        stop, failures = threading.Event(), []

        def work() -> None:
            began = time.monotonic()
            try:
                for count, number in enumerate(numbers, 1):
                    self.order(number)
                    self.flush()
                    if stop.wait(max(0.0, began + count / rate - time.monotonic())):
                        return
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

    def _send(
        self, table: str, number: int | None, row: Mapping[str, Any] | None, op: str, committed_ms: int | None = None
    ) -> None:
        now_ms = int(time.time() * 1000)
        source = {
            "connector": "postgresql", "name": "oms", "db": "oms", "schema": "public", "table": table,
            "lsn": next(self._lsn), "ts_ms": committed_ms or now_ms, "snapshot": "true" if op == "r" else "false",
        }  # fmt: skip
        key = None if number is None else {"id": number}
        after = None if row is None else {"id": number, **row}
        value = {"before": key if op == "d" else None, "after": after, "op": op, "ts_ms": now_ms, "source": source}
        partition = (number or 0) % PARTITIONS
        told = None if key is None else json.dumps(key)
        if len(self._producer) > QUEUED:
            self.flush()
        self._producer.produce(self.names[table], json.dumps(value), told, partition=partition)


@dataclass
class Rig:
    """The daemon's home, and all that it works between."""

    traffic: Traffic
    api: SandboxAdmin
    look: psycopg.Connection
    replica: Replica

    @contextmanager
    def running(self) -> Iterator[Child]:
        """The daemon, ready; SIGTERM must end it with 0."""
        child = self.replica.start("run")
        try:
            self.until(lambda: bool(self.replica.get("/readyz")), child, "the daemon to be ready")
            yield child
            child.end(signal.SIGTERM, timeout=60)
            assert child.returncode == 0, child.failure(f"SIGTERM ended it with {child.returncode}")
        finally:
            child.end()

    def command(self, *arguments: str) -> None:
        """A command that must end with 0."""
        child = self.replica.start(*arguments)
        try:
            assert child.wait(TIMEOUT) == 0, child.failure(f"{arguments} ended with {child.returncode}")
        finally:
            child.end()

    def until(self, condition: Callable[[], object], child: Child, what: str, timeout: float = TIMEOUT) -> None:
        """Return once it holds; the daemon must not have ended."""

        def seen() -> bool:
            assert child.returncode is None, child.failure(f"ended by itself with {child.returncode}")
            return bool(condition())

        wait_until(seen, what, timeout=timeout, interval=0.2)

    def ask(self, statement: str, *parameters: Any) -> list[Any]:
        """All rows of a statement over the state."""
        return self.look.execute(statement, parameters).fetchall()

    def figure(self, name: str, **labels: str) -> float:
        """The sum of a metric's samples that carry these labels; -1 where the daemon does not answer."""
        text = self.replica.get("/metrics")
        wanted = [f'{label}="{value}"' for label, value in labels.items()]
        lines = [line for line in (text or "").splitlines() if line.partition("{")[0].split(" ")[0] == name]
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines if all(w in line for w in wanted)) if text else -1.0

    def owed(self) -> int:
        """Orders that are owed a delivery, held by the guard or not."""
        return len(self.ask("select from order_sync where revision > settled_revision"))

    def folded(self) -> int:
        """Orders that the state knows."""
        return len(self.ask("select from order_sync"))

    def wrong(self) -> list[int]:
        """Orders that the OMS has and whose latest document does not have their total."""
        held = {order_id: document["purchase_total"] for order_id, document in self.api.orders().items()}
        return [n for n, total in self.traffic.totals.items() if total and held.get(f"T-{n}") != Decimal(total)]

    def attempts(self) -> list[Any]:
        """Orders that paid for a failure, and with which reason."""
        return self.ask("select order_key, reason from attempt_paid")

    def lateness(self, numbers: range) -> list[float]:
        """Of orders that changed once: seconds from the change to its acceptance, ascending."""
        accepted = {n: self.api.versions(f"T-{n}", DEFAULT_CLIENT_ID)[0].at for n in numbers}
        return sorted(at - self.traffic.changed_at[n] for n, at in accepted.items())


def percentile(ascending: list[float], share: float) -> float:
    """The smallest value that at least this share of them does not exceed."""
    return ascending[max(0, math.ceil(len(ascending) * share) - 1)]


def rig_at(
    home: Path,
    *,
    bootstrap: str,
    names: Mapping[str, str],
    state: tuple[str, psycopg.Connection],
    api: SandboxAdmin,
    url: str,
    delivery: Mapping[str, Any],
    on_delete: str = "keep",
    debounce: Mapping[str, float] | None = None,
    destination: Mapping[str, Any] | None = None,
) -> Rig:
    """A rig whose daemon has these settings; `state` is a migrated database's dsn and a connection to it."""
    dsn, look = state
    home.mkdir(parents=True, exist_ok=True)
    (home / "mapping.yaml").write_text(MAPPING.format(on_delete=on_delete, **names), encoding="utf-8")
    settings = {
        "mapping": "mapping.yaml",
        "kafka": {
            "bootstrap_servers": bootstrap,
            "group_id": names["orders"],
            "topic_refresh_secs": 2,
            "properties": CLIENT_PROPERTIES,
        },
        "postgres": {"dsn": dsn},
        "debounce": debounce or {"quiet_secs": 1, "max_wait_secs": 3},
        "delivery": delivery,
        "destinations": {
            "test": {
                "base_url": url,
                "client_id": DEFAULT_CLIENT_ID,
                "api_key_env": KEY_VARIABLE,
                **(destination or {}),
            }
        },
    }
    look.execute("set search_path to order_sync")
    look.execute(WATCH)
    return Rig(Traffic(bootstrap, names), api, look, Replica(home, settings))
