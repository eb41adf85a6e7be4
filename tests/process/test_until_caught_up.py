"""`order-sync run --until-caught-up`: the whole daemon over recorded messages, and what its exit code says."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import corpora_loader
import pytest
from confluent_kafka import Producer
from fixtures.postgres import Database
from fixtures.sandbox import RunningSandbox
from kill_rig import SCALED

from daemon.demo.process import free_port
from daemon.settings import Postgres
from daemon.state import steer

pytestmark = [pytest.mark.postgres, pytest.mark.kafka]

CORPUS = corpora_loader.load("a")
TABLES = ("orders", "order_lines", "refunds", "refund_lines", "customers")
MAPPING = (Path(__file__).parent.parent / "corpus_mapping.yaml").read_text(encoding="utf-8")
TIMEOUT = 90


@dataclass
class Daemon:
    """A settings file and a mapping over a test's own topics, database and sandbox."""

    home: Path
    bootstrap: str
    names: dict[str, str]
    port: int
    key: str
    postgres: Postgres

    def start(self, *options: str) -> subprocess.Popen[str]:
        clean = {name: value for name, value in os.environ.items() if not name.startswith("ORDER_SYNC_")}
        return subprocess.Popen(
            [sys.executable, "-m", "daemon", "run", "--config", str(self.home / "settings.json"), *options],
            env={**clean, "ORDER_SYNC_API_KEY": self.key, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *options: str) -> tuple[int, list[dict[str, Any]]]:
        """Exit status and log events."""
        process = self.start(*options)
        try:
            _, logs = process.communicate(timeout=TIMEOUT)
        finally:
            process.kill()
        return process.returncode, [json.loads(line) for line in logs.splitlines()]

    def edit(self, old: str, new: str) -> None:
        """Change the mapping."""
        mapping = self.home / "mapping.yaml"
        text = mapping.read_text(encoding="utf-8")
        assert old in text
        mapping.write_text(text.replace(old, new), encoding="utf-8")

    def produce(self, corrupt: bool = False) -> None:
        """The recorded messages, on this test's topics; with `corrupt` a broken one among them."""
        producer = Producer({"bootstrap.servers": self.bootstrap})
        if corrupt:
            producer.produce(self.names["orders"], b"{broken", b"no key", partition=0)
        for m in CORPUS.of_tables():
            table = m.topic.removeprefix("oms.public.")
            if table in self.names:
                producer.produce(
                    self.names[table], m.value, m.key, partition=m.partition, headers=list(m.headers or [])
                )
        producer.flush(TIMEOUT)


@pytest.fixture
def daemon(
    tmp_path: Path, database: Database, broker: Any, topics: Callable[..., str], sandbox: RunningSandbox
) -> Daemon:
    """Everything but the messages."""
    names = {table: topics(table) for table in TABLES}
    mapping = MAPPING
    for table, topic in names.items():
        mapping = mapping.replace(f"TOPIC-{table}\n", f"{topic}\n")
    (tmp_path / "mapping.yaml").write_text(mapping, encoding="utf-8")
    port = free_port()
    settings = {
        **SCALED,
        "mapping": "mapping.yaml",
        "kafka": {
            "bootstrap_servers": broker.bootstrap,
            "group_id": names["orders"],
            "properties": {"session.timeout.ms": 6000},
        },
        "postgres": {"dsn": database.settings.dsn},
        "destinations": {"test": {"base_url": sandbox.url, "client_id": sandbox.client_id, "live_since": "1970-01-01"}},
        "operate": {"listen_host": "127.0.0.1", "listen_port": port, "shutdown_secs": 20},
    }
    (tmp_path / "settings.json").write_text(json.dumps(settings), encoding="utf-8")
    return Daemon(tmp_path, broker.bootstrap, names, port, sandbox.api_key, database.settings)


def truth() -> dict[str, dict[str, str | None]]:
    """The recorded shop's orders by number."""
    return {str(row["order_no"]): dict(row) for row in CORPUS.tables["orders"].rows}


def test_everything_is_folded_and_accepted(daemon: Daemon, sandbox: RunningSandbox) -> None:
    """Only orders that the mapping holds remain; the API has all others, with the OMS's own totals and line counts."""
    daemon.produce()
    status, events = daemon.run("--until-caught-up")
    assert status == 3, events[-5:]
    pending = sum(row["status"] == "pending" for row in truth().values())
    counted = next(event for event in events if event["event"] == "caught up")
    assert (counted["held"], pending > 0) == (pending, True)
    assert not {"owed", "in_flight", "waiting", "quarantined"} & counted.keys()
    held = sandbox.admin.orders()
    wanted = {number: row for number, row in truth().items() if row["status"] not in ("pending", "cancelled")}
    assert held.keys() == wanted.keys()
    lines: dict[str | None, int] = {}
    for row in CORPUS.tables["order_lines"].rows:
        lines[row["order_id"]] = lines.get(row["order_id"], 0) + 1
    for number, row in wanted.items():
        assert float(held[number]["purchase_total"]) == pytest.approx(float(row["total"] or 0), abs=0.5)
        assert len(held[number]["products"]) <= lines[row["id"]]
    before = sandbox.admin.stats()["requests"]
    status, _ = daemon.run("--until-caught-up")
    assert (status, sandbox.admin.stats()["requests"]) == (3, before)


def test_nothing_remains_where_every_order_is_one(daemon: Daemon, sandbox: RunningSandbox) -> None:
    """Exit 0 with a mapping that holds none back."""
    daemon.edit("when: row.status != 'pending'\n", "")
    daemon.produce()
    status, events = daemon.run("--until-caught-up")
    assert status == 0, events[-5:]
    assert sandbox.admin.orders().keys() == {n for n, row in truth().items() if row["status"] != "cancelled"}


def test_old_orders_that_nobody_asked_for_remain(daemon: Daemon, sandbox: RunningSandbox) -> None:
    """Exit 3 with their number, in shadow too; exit 1 where delivery is off; what was asked for is waited for."""
    settings = json.loads((daemon.home / "settings.json").read_text(encoding="utf-8"))
    destination = settings["destinations"]["test"]
    del destination["live_since"]
    wanted = {number for number, row in truth().items() if row["status"] not in ("pending", "cancelled")}

    def run(mode: str) -> tuple[int, dict[str, Any]]:
        destination["delivery"] = mode
        (daemon.home / "settings.json").write_text(json.dumps(settings), encoding="utf-8")
        status, events = daemon.run("--until-caught-up")
        return status, next((event for event in events if event["event"] == "caught up"), {})

    daemon.produce()
    assert run("off")[0] == 1
    status, counted = run("shadow")
    assert (status, counted["shadow"]) == (3, len(wanted))
    assert sandbox.admin.stats()["requests"] == 0
    status, counted = run("on")
    assert (status, counted["backfill"]) == (3, len(wanted))
    steer.ask_backfill(daemon.postgres, ["test"], None, None, "alice")
    status, counted = run("on")
    assert (status, "backfill" in counted) == (3, False)
    assert sandbox.admin.orders().keys() == wanted


def test_refused_orders_remain_in_quarantine(daemon: Daemon, sandbox: RunningSandbox) -> None:
    """Exit 3 with the number of orders that the API refused by name; all others were accepted."""
    number = next(n for n, row in truth().items() if row["status"] == "shipped")
    sandbox.admin.fault("status", status=400, order_id=number, count=None)
    daemon.produce()
    status, events = daemon.run("--until-caught-up")
    assert status == 3, events[-5:]
    assert next(e for e in events if e["event"] == "caught up")["quarantined"] == 1
    wanted = {n for n, row in truth().items() if row["status"] not in ("pending", "cancelled")} - {number}
    assert sandbox.admin.orders().keys() == wanted


def test_a_wrong_key_is_no_orders_fault(daemon: Daemon, database: Database, sandbox: RunningSandbox) -> None:
    """Exit 1; the destination is halted and says why, no order is quarantined or attempted; the right key heals it."""
    daemon.produce()
    right, daemon.key = daemon.key, "wrong"
    status, events = daemon.run("--until-caught-up")
    assert status == 1, events[-5:]
    assert any("401" in json.dumps(event) for event in events if event["level"] == "error")
    with closing(database.connect()) as connection:
        state = (
            "select count(*) filter (where attempts > 0 or quarantine_revision is not null) from order_sync.order_sync"
        )
        assert connection.execute(state).fetchone() == (0,)
    daemon.key = right
    # The halt is remembered; the daemon tries it again by itself, `--until-caught-up` does not wait for that.
    process = daemon.start()
    try:
        wanted = {n for n, row in truth().items() if row["status"] not in ("pending", "cancelled")}
        sandbox.admin.wait("accepted_orders", least=len(wanted), timeout_secs=TIMEOUT)
        process.send_signal(signal.SIGTERM)
        assert process.wait(TIMEOUT) == 0
    finally:
        process.kill()
        process.communicate()
    assert sandbox.admin.orders().keys() == wanted


def test_a_rejected_message_is_kept_and_holds_up_nothing(
    daemon: Daemon, database: Database, sandbox: RunningSandbox
) -> None:
    """Exit 0: a reject is no order; it is listed with its reason."""
    daemon.edit("when: row.status != 'pending'\n", "")
    daemon.produce(corrupt=True)
    status, events = daemon.run("--until-caught-up")
    assert status == 0, events[-5:]
    with closing(database.connect()) as connection:
        kept = connection.execute("select reason, value from order_sync.rejected_message").fetchall()
    assert kept == [("not_json", b"{broken")]


def test_another_structure_is_refused_with_the_cure(daemon: Daemon, sandbox: RunningSandbox) -> None:
    """Rows folded with one type are not read with another: exit 2, naming the rebuild; expressions may change."""
    daemon.produce()
    assert daemon.run("--until-caught-up")[0] == 3
    daemon.edit("order_tags: order.tags or []", "order_tags: \"['recorded']\"")
    assert daemon.run("--until-caught-up")[0] == 3
    daemon.edit(', tax: "numeric(12,2)"', "")
    process = daemon.start("--until-caught-up")
    _, said = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 2
    assert "run `order-sync rebuild --source orders` with this mapping" in said


def test_a_column_that_no_message_has_is_named(daemon: Daemon, sandbox: RunningSandbox) -> None:
    """A misspelt column: an error with place and near miss while running, and no start once the topics are known."""
    daemon.edit("purchase_total: order.total", "purchase_total: order.totl")
    daemon.produce()
    process = daemon.start()
    try:
        assert process.stderr is not None
        events = (json.loads(line) for line in process.stderr)
        event = next(e for e in events if e["event"] == "the mapping names a column that no message has")
        assert "orders.totl" in event["problem"]
        assert "did you mean total?" in event["problem"]
        process.send_signal(signal.SIGTERM)
    finally:
        process.communicate(timeout=TIMEOUT)
    assert sandbox.admin.orders() == {}
    process = daemon.start("--until-caught-up")
    _, said = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 2
    assert "mapping.yaml:" in said
    assert "did you mean total?" in said


def test_metrics_and_probes_of_the_running_daemon(
    daemon: Daemon, sandbox: RunningSandbox, eventually: Callable[..., None]
) -> None:
    """It becomes ready, counts what it consumed, tells lag, freshness and leadership; then the port closes."""
    daemon.produce()
    process = daemon.start()

    def get(path: str) -> str:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{daemon.port}{path}", timeout=5) as answer:
                return str(answer.read().decode())
        except OSError:
            return ""

    try:
        eventually(lambda: '"ready": true' in get("/readyz") or '"ready":true' in get("/readyz"), timeout=TIMEOUT)
        eventually(lambda: "order_sync_freshness_seconds_count" in get("/metrics"), timeout=TIMEOUT)
        assert get("/livez")
        text = get("/metrics")
        assert 'order_sync_leader{destination="test"} 1.0' in text
        assert "order_sync_messages_total" in text
        process.send_signal(signal.SIGTERM)
        assert process.wait(TIMEOUT) == 0
    finally:
        process.kill()
        process.communicate()
    assert get("/livez") == ""
