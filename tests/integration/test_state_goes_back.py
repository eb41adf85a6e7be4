"""The state's Postgres goes back: a dump is restored, a backup is recovered under a daemon that runs. All ends well."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import signal
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer
from daemon_rig import KEY_VARIABLE, Replica
from fixtures.kafka import BrokerAt
from fixtures.sandbox import RunningSandbox
from ingest_rig import QUIET
from kill_rig import SCALED

from daemon.demo.process import Child, wait_until
from daemon.demo.stack import CLIENT_PROPERTIES, Broker, PostgresServer
from daemon.settings import Postgres
from daemon.state.migrate import migrate

pytestmark = [pytest.mark.postgres, pytest.mark.kafka]

TIMEOUT = 60
PARTITIONS = 2
STATE = "order_sync"
MAPPING = """
version: 1
root: orders
debezium: {decimal_handling_mode: string}
when: row.status != 'draft'
void: row.status == 'cancelled'
void_tag: Cancelled
on_delete: void
on_leave: void
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
  order_id: row.number
  customer_id: "'guest'"
  time_of_purchase: iso(row.placed_at)
  currency: "'EUR'"
  purchase_total: row.total
  tax: 0
  shipping_cost: 0
  products:
    for: {l: row.lines}
    item: {id: text(l.id), name: l.title, quantity: l.quantity, price: 1}
"""
NOTHING, VOID = "nothing", "void"


@dataclass
class Installation:
    """A server of its own, a daemon on it, and what the OMS wrote to Kafka."""

    server: PostgresServer
    bootstrap: str
    names: dict[str, str]
    sandbox: RunningSandbox
    home: Path
    sent: Counter[tuple[str, int]] = field(default_factory=Counter)
    running: Child | None = None
    _lsn: Iterator[int] = field(default_factory=lambda: itertools.count(1000))

    def __post_init__(self) -> None:
        self._producer = Producer({"bootstrap.servers": self.bootstrap, "linger.ms": 5}, logger=QUIET)
        self.server.create_database(STATE)
        migrate(Postgres(dsn=self.server.dsn(STATE)))
        mapping = MAPPING
        for table, topic in self.names.items():
            mapping = mapping.replace(f"TOPIC-{table}\n", f"{topic}\n")
        self.home.mkdir()
        (self.home / "mapping.yaml").write_text(mapping, encoding="utf-8")
        self.replica = Replica(
            self.home,
            {
                "debounce": {"quiet_secs": 0, "max_wait_secs": 0},
                "delivery": {**SCALED["delivery"], "budget_window_secs": 2},
                "mapping": "mapping.yaml",
                "kafka": {
                    "bootstrap_servers": self.bootstrap,
                    "group_id": self.names["orders"],
                    "topic_refresh_secs": 1,
                    "properties": CLIENT_PROPERTIES,
                },
                "ingest": {"retry_initial_ms": 50, "retry_max_secs": 0.5},
                "postgres": {"dsn": self.server.dsn(STATE)},
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

    # the OMS

    def order(self, *numbers: int, total: int = 1, status: str = "paid") -> None:
        """These orders are written, each with its line."""
        for number in numbers:
            row = {
                "id": number, "number": f"A-{number}", "status": status, "total": f"{total}.00",
                "placed_at": "2026-03-01T08:14:59.274427Z",
            }  # fmt: skip
            self._send("orders", number, "u", row)
            self._send("order_lines", number, "c", {"id": number, "order_id": number, "title": "thing", "quantity": 1})
        assert self._producer.flush(TIMEOUT) == 0

    def delete(self, number: int) -> None:
        """The order is deleted, and its line with it."""
        for table in ("order_lines", "orders"):
            self._send(table, number, "d", None)
        assert self._producer.flush(TIMEOUT) == 0

    def _send(self, table: str, number: int, op: str, row: dict[str, Any] | None) -> None:
        lsn = next(self._lsn)
        source = {
            "connector": "postgresql", "name": "oms", "db": "oms", "schema": "public", "table": table,
            "lsn": lsn, "ts_ms": 1_767_355_200_000 + lsn, "snapshot": "false",
        }  # fmt: skip
        value = {"before": {"id": number} if row is None else None, "after": row, "op": op, "source": source}
        topic, partition = self.names[table], number % PARTITIONS
        self._producer.produce(topic, json.dumps(value), json.dumps({"id": number}), partition=partition)
        self.sent[topic, partition] += 1

    # the daemon

    def start(self) -> None:
        """Start it."""
        self.running = self.replica.start("run")

    def stop(self) -> None:
        """End it in order."""
        child, self.running = self.running, None
        assert child is not None
        child.send(signal.SIGTERM)
        assert child.wait(TIMEOUT) == 0, child.failure("SIGTERM")
        child.end()

    def catch_up(self) -> None:
        """Return once all is folded, and nothing is owed but by a paused destination."""

        def done() -> bool:
            assert self.running is None or self.running.returncode is None, self.running.failure("ended by itself")
            return self._caught_up()

        wait_until(done, "all to be folded and accepted", timeout=TIMEOUT, interval=0.1)

    def _caught_up(self) -> bool:
        at = self.ask(
            "select o.topic, o.partition, max(p.next_offset) from kafka_position p"
            " join origin o on o.id = p.origin group by 1, 2"
        )
        stands = {(topic, partition): next_offset for topic, partition, next_offset in at}
        owed = "select count(*) from order_sync where revision > settled_revision or request_id is not null"
        folded = all(stands.get(name, -1) >= count for name, count in self.sent.items())
        return folded and (self.one("select paused from destination") or not self.one(owed))

    def ask(self, statement: str) -> list[Any]:
        """All rows of a statement."""
        with closing(self.server.connect(STATE)) as look:
            look.execute("set search_path to order_sync")
            cursor = look.execute(statement)
            return cursor.fetchall() if cursor.description else []

    def one(self, statement: str) -> Any:
        """The one value of a statement."""
        [(value,)] = self.ask(statement)
        return value

    # what came of it

    def at_vendor(self) -> dict[int, Any]:
        """Each order: its total, or that it was voided."""
        found: dict[int, Any] = {}
        for order_id, document in self.sandbox.admin.orders().items():
            zero = not document["purchase_total"] and not any(one["quantity"] for one in document["products"])
            voided = zero and "Cancelled" in document["order_tags"]
            found[int(order_id.removeprefix("A-"))] = VOID if voided else Decimal(document["purchase_total"])
        return found

    def metric(self, line: str) -> bool:
        """Whether the scrape has this line."""
        return line in (self.replica.get("/metrics") or "").splitlines()


@pytest.fixture
def installation(
    tmp_path: Path, broker: BrokerAt | Broker, topics: Callable[..., str], sandbox: RunningSandbox
) -> Iterator[Installation]:
    """Everything started but the daemon."""
    names = {table: topics(table, partitions=PARTITIONS) for table in ("orders", "order_lines")}
    with PostgresServer(tmp_path / "pg") as server:
        made = Installation(server, broker.bootstrap, names, sandbox, tmp_path / "daemon")
        try:
            yield made
        finally:
            if made.running is not None:
                made.running.end()


def _dump_tool(server: PostgresServer, tool: str, *arguments: str | Path) -> None:
    subprocess.run([server._binaries() / tool, *arguments], check=True, capture_output=True, env={"LC_ALL": "C"})


def test_a_dump_that_is_restored_is_caught_up_with(installation: Installation, tmp_path: Path) -> None:
    """What was sent, cancelled, deleted, changed and changed back since the dump: the vendor ends with the truth."""
    here = installation
    dump = tmp_path / "state.dump"
    here.start()
    here.order(1, 2, 3, 8)
    here.catch_up()
    here.ask("update destination set paused = true")
    here.order(5)
    here.catch_up()
    _dump_tool(here.server, "pg_dump", "--format=custom", "--file", dump, "--dbname", here.server.dsn(STATE))

    # The future that is going to be lost.
    here.ask("update destination set paused = false")
    here.order(2, 3, total=2)
    here.order(4, 6, 9)
    here.catch_up()
    here.order(7)
    here.order(7, status="cancelled")
    here.delete(8)
    here.catch_up()
    here.stop()
    assert here.at_vendor() == {1: 1, 2: 2, 3: 2, 4: 1, 5: 1, 6: 1, 8: VOID, 9: 1, **here_if(here, 7)}
    here.order(3, total=1)
    here.order(4, 5, status="cancelled")
    here.order(6, status="draft")
    here.delete(9)

    here.ask("drop schema order_sync cascade")
    _dump_tool(here.server, "pg_restore", "--dbname", here.server.dsn(STATE), dump)
    here.ask("update destination set paused = false")
    here.start()
    here.catch_up()
    here.order(10, status="cancelled")
    here.order(11)
    here.catch_up()

    truth = {1: 1, 2: 2, 3: 1, 4: VOID, 5: VOID, 6: VOID, 7: VOID, 8: VOID, 11: 1}
    # Of an order that is deleted now and of which only the lost future knew, nothing is left to void it with.
    assert here.at_vendor() == {**truth, 9: 1}
    assert here.ask("select order_key from order_sync where hold = 'lost'") == [("9",)]
    wait_until(
        lambda: here.metric('order_sync_orders{destination="test",state="lost"} 1.0'), "the alarm", timeout=TIMEOUT
    )
    [(number, cause, replayed)] = here.ask("select number, cause, replayed_at is not null from era where number > 0")
    assert (number, replayed) == (1, True)
    assert here.names["orders"] in cause or here.names["order_lines"] in cause
    assert here.metric("order_sync_era 1.0")
    assert sum(event["event"] == "the state went back, a new era began" for event in here.replica.events()) == 1
    status = here.replica.start("status", "--json", "--no-lag")
    assert status.wait(TIMEOUT) == 0
    status.end()
    assert '"lost_orders": 1' in here.replica.said
    assert here.sandbox.admin.stats()["shared_in_flight"] == 0
    assert here.sandbox.admin.stats()["budget_violations"] == 0


def here_if(here: Installation, number: int) -> dict[int, Any]:
    """The order as the vendor has it: cancelled before or after it was sent, as it happened."""
    return {number: VOID} if number in here.at_vendor() else {}


def test_a_backup_that_is_recovered_under_a_running_daemon(installation: Installation, tmp_path: Path) -> None:
    """The server is stopped and comes back on a new timeline, without its last commits, while the daemon runs on."""
    here = installation
    here.start()
    here.order(1, 2, 3, 4)
    here.catch_up()
    backup = here.server.data.with_name("backup")
    here.server.stop()
    _copied(here.server.data, backup)
    here.server.start()

    here.order(2, 3, total=2)
    here.order(5, 6)
    here.catch_up()
    here.order(3, total=1)
    here.order(4, status="cancelled")
    here.catch_up()
    assert here.at_vendor() == {1: 1, 2: 2, 3: 1, 4: VOID, 5: 1, 6: 1}

    here.server.stop()
    here.order(5, status="cancelled")
    here.order(7)
    shutil.rmtree(here.server.data)
    _copied(backup, here.server.data)
    (here.server.data / "recovery.signal").touch()
    here.server.options["restore_command"] = "false"
    here.server.start()
    here.catch_up()
    here.order(2, total=3)
    here.catch_up()
    assert here.at_vendor() == {1: 1, 2: 3, 3: 1, 4: VOID, 5: VOID, 6: 1, 7: 1}
    assert here.one("select timeline from era order by number desc limit 1") == "00000002"
    assert here.one("select count(*) from era") == 2
    assert here.sandbox.admin.stats()["shared_in_flight"] == 0
    here.stop()


def _copied(source: Path, target: Path) -> None:
    """A data directory with its owner and modes."""
    shutil.copytree(source, target, symlinks=True)
    for path in (target, *target.rglob("*")):
        like = source / path.relative_to(target)
        os.chown(path, like.stat().st_uid, like.stat().st_gid)
