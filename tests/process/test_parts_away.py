"""The whole daemon while the vendor, Postgres or Kafka is away for longer than `stall_secs`: not ready, not restarted.

What a restart would heal, a loop that hangs, is told apart. A kubelet would ask `/livez` and `/readyz` just so.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer
from daemon_rig import Replica
from fixtures.sandbox import RunningSandbox
from kill_rig import SCALED

from daemon.demo.process import Child, wait_until
from daemon.demo.stack import Broker, PostgresServer
from daemon.sandbox.client import SandboxAdmin
from daemon.sandbox.options import DEFAULT_KEY
from daemon.sandbox.server import SandboxServer
from daemon.settings import Postgres
from daemon.state.migrate import migrate

pytestmark = [pytest.mark.postgres, pytest.mark.kafka]

STALL = 3.0  # a loop that hung would be found after this
AWAY = 2 * STALL
TIMEOUT = 60
MAPPING = """
version: 1
root: orders
hooks: hooks.py
debezium: {decimal_handling_mode: string}
sources:
  orders:
    topic: orders
    key: [id]
    types: {total: "numeric(12,2)"}
document:
  order_id: text(order.id)
  customer_id: "'guest'"
  time_of_purchase: "'2026-01-01T10:00:00Z'"
  currency: "'EUR'"
  purchase_total: order.total
  tax: 0
  shipping_cost: 0
  products:
    for: {l: "[order]"}
    item: {id: text(l.id), name: "'A'", quantity: 1, price: l.total}
"""

# Whoever reads a pipe that nobody writes to waits for ever.
HOOKS = """
import pathlib

def after(document, order):
    pipe = pathlib.Path({pipe!r})
    if pipe.exists():
        pipe.read_bytes()
    return document
"""


@dataclass
class Line:
    """A daemon with parts of its own, each of which can go away."""

    replica: Replica
    child: Child
    kafka: Broker
    postgres: PostgresServer
    sandbox: RunningSandbox
    pipe: Path
    ids: int = 0

    def change(self) -> str:
        """A new order; its id."""
        self.ids += 1
        key = {"id": self.ids}
        value = {
            "before": None,
            "after": {**key, "total": "9.90"},
            "op": "c",
            "source": {"ts_ms": time.time_ns() // 10**6},
        }
        producer = Producer({"bootstrap.servers": self.kafka.bootstrap})
        producer.produce("orders", json.dumps(value).encode(), json.dumps(key).encode())
        assert producer.flush(TIMEOUT) == 0
        return str(self.ids)

    def loops(self) -> dict[str, dict[str, Any]]:
        """What /readyz says of each loop."""
        body = self.replica.probe("/readyz")[1]
        return json.loads(body)["loops"] if body else {}

    def ready(self) -> bool:
        """As the kubelet sees it."""
        return self.replica.probe("/readyz")[0] == 200

    def accepted(self, order: str) -> bool:
        """Whether the vendor has it."""
        return order in self.sandbox.admin.orders()

    def stays_alive_and_unready(self, loop: str, words: str) -> None:
        """From now on for long, at every question; `loop` gives a reason with these words."""
        wait_until(lambda: words in self.loops().get(loop, {}).get("reason", ""), f"{loop}: {words}", timeout=TIMEOUT)
        over = time.monotonic() + AWAY
        questions = 0

        def long_enough() -> bool:
            nonlocal questions
            questions += 1
            status, body = self.replica.probe("/livez")
            assert status == 200, body
            assert not self.ready()
            assert self.child.returncode is None
            return time.monotonic() > over

        wait_until(long_enough, "the time away", timeout=AWAY + TIMEOUT)
        assert questions > 3

    def recovers(self, order: str) -> None:
        """Ready by itself, and what was owed goes out."""
        wait_until(self.ready, "being ready again", timeout=TIMEOUT)
        wait_until(lambda: self.accepted(order), "acceptance of the order", timeout=TIMEOUT)
        assert self.child.returncode is None


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Line]:
    """Ready, with one order accepted. One for the file, as its start is most of a test; each test leaves it ready."""
    with (
        Broker() as kafka,
        PostgresServer() as postgres,
        SandboxServer() as server,
        SandboxAdmin(server.url) as admin,
    ):
        sandbox = RunningSandbox(server, admin)
        kafka.create_topic("orders", 1)
        migrate(Postgres(dsn=postgres.dsn()))
        home = tmp_path_factory.mktemp("replica")
        (home / "mapping.yaml").write_text(MAPPING)
        (home / "hooks.py").write_text(HOOKS.format(pipe=str(home / "pipe")))
        settings = {
            **SCALED,
            "mapping": "mapping.yaml",
            "kafka": {"bootstrap_servers": kafka.bootstrap, "group_id": "g", "topic_refresh_secs": 1},
            "postgres": {"dsn": postgres.dsn(), "connect_timeout_secs": 1, "statement_timeout_secs": 1},
            "delivery": SCALED["delivery"] | {"halt_probe_secs": 1},
            "destinations": {"d": {"base_url": sandbox.url, "client_id": sandbox.client_id}},
            "operate": {"stall_secs": STALL},
        }
        replica = Replica(home, settings)
        made = Line(replica, replica.start("run"), kafka, postgres, sandbox, home / "pipe")
        try:
            made.recovers(made.change())
            yield made
        finally:
            made.child.end(signal.SIGKILL)


def test_the_vendor_is_away(line: Line) -> None:
    """Requests fail in a row: delivery does not get on and says so; ingest does."""
    line.sandbox.server.stop()
    order = line.change()
    line.stays_alive_and_unready("deliver d", "the Orders API failed")
    assert line.loops()["ingest"]["ready"]
    line.sandbox.server.start()
    line.recovers(order)


def test_the_vendor_refuses_the_key(line: Line) -> None:
    """A halted destination gets on no more than one whose vendor is down."""
    line.sandbox.admin.key(DEFAULT_KEY, "revoked")
    order = line.change()
    line.stays_alive_and_unready("deliver d", "destination halted")
    line.sandbox.admin.key(DEFAULT_KEY, "good")
    line.recovers(order)


def test_postgres_is_away(line: Line) -> None:
    """Neither loop gets on, both turn."""
    line.postgres.stop(immediate=True)
    order = line.change()
    line.stays_alive_and_unready("ingest", "Postgres")
    assert "Postgres" in line.loops()["deliver d"]["reason"]
    line.postgres.start()
    line.recovers(order)


def test_the_state_is_locked(line: Line) -> None:
    """By somebody's maintenance: neither loop gets on, and each gives up its statement in time to turn."""
    with closing(line.postgres.connect()) as maintenance, maintenance.transaction():
        maintenance.execute("lock table order_sync.source_row, order_sync.order_sync in access exclusive mode")
        order = line.change()
        line.stays_alive_and_unready("ingest", "Postgres")
        assert "Postgres" in line.loops()["deliver d"]["reason"]
    line.recovers(order)


def test_delivery_hangs(line: Line) -> None:
    """In a merchant's hook, which never returns: neither ready nor alive, and the loop is named. Ingest is well."""
    os.mkfifo(line.pipe)
    try:
        order = line.change()
        wait_until(lambda: line.replica.probe("/livez")[0] == 503, "/livez failing", timeout=TIMEOUT)
        assert not line.ready()
        loops = line.loops()
        assert "has not turned" in loops["deliver d"]["reason"]
        assert loops["ingest"]["ready"]
    finally:
        with line.pipe.open("wb"):
            line.pipe.unlink()
    wait_until(lambda: line.replica.probe("/livez")[0] == 200, "being alive", timeout=TIMEOUT)
    line.recovers(order)


def test_before_it_could_start(line: Line) -> None:
    """A daemon that is started while Postgres is away waits for it, alive and not ready."""
    line.child.end(signal.SIGTERM, timeout=TIMEOUT)
    line.postgres.stop(immediate=True)
    line.child = line.replica.start("run")
    wait_until(lambda: line.replica.probe("/livez")[0] == 200, "being alive", timeout=TIMEOUT)
    assert not line.ready()
    line.postgres.start()
    line.recovers(line.change())


def test_kafka_is_away(line: Line) -> None:
    """Ingest does not get on; delivery of what is folded does. The last test: this broker does not come back."""
    line.kafka.stop()
    line.stays_alive_and_unready("ingest", "Kafka")
    assert line.loops()["deliver d"]["ready"]
