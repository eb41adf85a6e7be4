"""The daemon in a process of its own, between a broker, Postgres and the API's stand-in: for figures of delivery."""

from __future__ import annotations

import re
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import psycopg
from daemon_rig import KEY_VARIABLE, Replica
from fixtures.kafka_server import KafkaServer
from line import Topics
from rig import looking, state

from daemon.demo.process import wait_until
from daemon.demo.stack import CLIENT_PROPERTIES, Broker, PostgresServer
from daemon.sandbox.client import SandboxAdmin
from daemon.sandbox.options import DEFAULT_CLIENT_ID, SandboxOptions
from daemon.sandbox.server import SandboxServer
from daemon.settings import Postgres

BYTES_A_SECOND = 400_000
"""The budget, as by default: 24 MB in 60 s."""
LATENCY_SECS = 0.2
"""How long the stand-in takes to answer."""
QUIET_SECS, MAX_WAIT_SECS = 1.0, 5.0
TIMEOUT = 600
KNOWN_AND_OWED = "count(*), count(*) filter (where revision > settled_revision)"


@dataclass(frozen=True, slots=True)
class Running:
    """A daemon that is ready, what it reads from, where it sends, and a look into its state."""

    topics: Topics
    api: SandboxAdmin
    look: psycopg.Connection[Any]
    replica: Replica
    pid: int
    ready_secs: float
    """From the start of its process until it was ready."""

    def settled(self, least: int = 0) -> None:
        """Return once at least so many orders are known and none is owed."""

        def done() -> bool:
            known, owed = self.ask(
                "select count(*), count(*) filter (where revision > settled_revision) from order_sync"
            )
            return known >= least and owed == 0

        self.until(done, "all orders to be settled")

    def until(self, condition: Callable[[], bool], what: str) -> None:
        """Return once it holds."""
        wait_until(condition, what, timeout=TIMEOUT, interval=0.1)

    def ask(self, statement: str, *parameters: Any) -> tuple[Any, ...]:
        """The first row of a statement over the state."""
        row: tuple[Any, ...] | None = self.look.execute(statement, parameters).fetchone()
        return row or ()


@contextmanager
def running(
    server: PostgresServer,
    broker: Broker | KafkaServer,
    window_secs: float,
    prepare: Callable[[Postgres, str], None] = lambda _postgres, _url: None,
) -> Iterator[Running]:
    """One with the demo shop's mapping, production's settings but for the debounce and the window of the budget.

    `prepare` is handed the migrated state and the API's URL before the daemon starts.
    """
    budget = int(BYTES_A_SECOND * window_secs)
    options = SandboxOptions(budget_bytes=budget, budget_window_secs=window_secs, keep_versions=2)
    topics = Topics(broker)
    with (
        tempfile.TemporaryDirectory(prefix="order-sync-bench-") as home,
        state(server, registered=False) as postgres,
        looking(postgres) as look,
        SandboxServer(options) as api,
        SandboxAdmin(api.url, timeout_secs=120) as admin,
    ):
        admin.fault("delay", seconds=LATENCY_SECS, count=None)
        prepare(postgres, api.url)
        replica = Replica(Path(home) / "bench", settings_file(Path(home), topics, postgres, api.url, window_secs))
        started = time.monotonic()
        child = replica.start("run")
        try:
            wait_until(
                lambda: child.returncode is not None or bool(replica.get("/readyz")), "the daemon", timeout=TIMEOUT
            )
            if child.returncode is not None:
                raise child.failure(f"ended with {child.returncode}")
            yield Running(topics, admin, look, replica, child.pid, time.monotonic() - started)
        finally:
            child.end()


def settings_file(home: Path, topics: Topics, postgres: Postgres, url: str, window_secs: float) -> Mapping[str, Any]:
    """The settings of a daemon over these topics, with the demo shop's mapping beside them in `home`."""
    text = files("daemon.demo").joinpath("shop/mapping.yaml").read_text(encoding="utf-8")
    mapping = home / "mapping.yaml"
    mapping.write_text(re.sub(r"(?m)^(    topic: \S+)$", rf"\1.{topics.suffix}", text), encoding="utf-8")
    budget = int(BYTES_A_SECOND * window_secs)
    return {
        "mapping": str(mapping),
        "kafka": {
            "bootstrap_servers": topics.bootstrap,
            "group_id": topics.suffix,
            "properties": CLIENT_PROPERTIES,
        },
        "postgres": {"dsn": postgres.dsn},
        "debounce": {"quiet_secs": QUIET_SECS, "max_wait_secs": MAX_WAIT_SECS},
        "delivery": {"budget_bytes": budget, "budget_window_secs": window_secs, "max_request_bytes": budget // 6},
        "destinations": {
            "bench": {
                "base_url": url,
                "client_id": DEFAULT_CLIENT_ID,
                "api_key_env": KEY_VARIABLE,
                "live_since": "1970-01-01",
            }
        },
    }
