"""The running demo under a real Prometheus with the chart's alerts, where a quarter of an hour takes 3 s.

`python -m prometheus_rig` records what the demo's /metrics shows in `fixtures/scrape.prom`.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import psycopg
from chart.rules import KNOBS, rules
from kill_rig import SCALED, TIMEOUT, trading, wait
from prometheus_client.parser import text_string_to_metric_families

from daemon.demo.daemon_process import DaemonProcess
from daemon.demo.process import Child, free_port, wait_until
from daemon.demo.shop.shop import Shop
from daemon.demo.stack import Stack
from daemon.sandbox.client import SandboxAdmin
from daemon.sandbox.server import SandboxServer

RECORDED = Path(__file__).parent / "fixtures" / "scrape.prom"
JOB = "sync/shop"
SCALE = 300  # of every duration in the rules
WITHIN = 15  # seconds: the histogram has no bound at a 300th of a quarter of an hour that a busy machine keeps
STALE = 8  # seconds, likewise: what is owed is debounced for up to 2
INTERVAL = "250ms"
LOOK_SECS = 0.25
IN_SECONDS = ("OrderSyncBackfillOrdersStale", "OrderSyncHeldLong", "OrderSyncIngestBehind")
UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}

PAST_ORDERS = 120
RATE = 5.0
VOIDS = 60  # an hour, which is a real one: more than the trade of the test comes to
REJECTS = 20
CHANGES: dict[str, dict[str, object]] = {
    **SCALED,
    "delivery": {**SCALED["delivery"], "halt_probe_secs": 1, "circuit_failures": 3, "max_voids_per_hour": VOIDS},
    "ingest": {"reject_budget": REJECTS},
}

# Labels whose values differ from one run to the next.
VARYING = {
    "order_sync_build_info": {"version", "mapping", "structure"},
    "order_sync_messages_total": {"op", "outcome", "reason"},
}
Series = tuple[str, frozenset[tuple[str, str]]]


class NoPrometheusError(Exception):
    """Prometheus is not there. The text says how to get it: the reason to skip."""


def shortened(duration: str) -> str:
    """The 300th of a duration like 15m."""
    return f"{int(duration[:-1]) * UNITS[duration[-1]] * 1000 // SCALE}ms"


def scaled_rules() -> list[dict[str, Any]]:
    """The chart's alerts: durations shortened, and thresholds that few orders reach in a short time."""
    changes = {name: {"threshold": KNOBS[name]["threshold"] / SCALE} for name in IN_SECONDS}
    changes["OrderSyncLiveOrdersStale"] = {"threshold": STALE}
    changes["OrderSyncQuarantineGrowing"] = {"threshold": 2}
    made = rules(JOB, within=WITHIN, changes=changes)
    for rule in made:
        rule["expr"] = re.sub(
            r"(\[|offset )(\d+[smhd])", lambda found: found[1] + shortened(found[2]), str(rule["expr"])
        )
        rule["for"] = shortened(rule["for"])
    return made


class Prometheus:
    """One that scrapes a daemon all the time."""

    def __init__(self, url: str) -> None:
        self._http = httpx.Client(base_url=url, timeout=10, trust_env=False)

    def query(self, expression: str) -> list[dict[str, Any]]:
        """What an expression gives now; each with `metric` and `value`."""
        found: list[dict[str, Any]] = self._data("query", query=expression)["result"]
        return found

    def firing(self) -> set[str]:
        """The names of the alerts that fire. Each has the words that it should have."""
        alerts = [one for one in self._data("alerts")["alerts"] if one["state"] == "firing"]
        assert "error expanding template" not in json.dumps(alerts)
        return {one["labels"]["alertname"] for one in alerts}

    def await_firing(self, *names: str) -> None:
        """Return once these fire."""
        wait_until(lambda: self.firing() >= set(names), f"firing: {names}", timeout=TIMEOUT, interval=LOOK_SECS)

    def await_quiet(self, *names: str) -> None:
        """Return once none of these fires; without names, none at all."""

        def quiet() -> bool:
            firing = self.firing()
            return not (firing & set(names) if names else firing)

        wait_until(quiet, f"no firing: {names or 'at all'}", timeout=TIMEOUT, interval=LOOK_SECS)

    def ready(self) -> bool:
        """Whether it answers."""
        try:
            return self._http.get("/-/ready").is_success
        except httpx.HTTPError:
            return False

    def close(self) -> None:
        """Give its connections back."""
        self._http.close()

    def _data(self, path: str, **asked: str) -> dict[str, Any]:
        answer = self._http.get(f"/api/v1/{path}", params=asked)
        assert answer.is_success, answer.text
        data: dict[str, Any] = answer.json()["data"]
        return data


@contextmanager
def prometheus(home: Path, metrics_url: str) -> Iterator[Prometheus]:
    """It runs, and scrapes that address. Raises NoPrometheusError."""
    program = shutil.which("prometheus")
    if program is None:
        raise NoPrometheusError("prometheus is not installed; Debian's package has this name")
    groups = [{"name": "order-sync", "interval": INTERVAL, "rules": scaled_rules()}]
    (home / "rules.json").write_text(json.dumps({"groups": groups}))  # JSON is YAML
    target = httpx.URL(metrics_url)
    config = {
        "global": {"scrape_interval": INTERVAL, "scrape_timeout": INTERVAL, "evaluation_interval": INTERVAL},
        "rule_files": ["rules.json"],
        "scrape_configs": [{"job_name": JOB, "static_configs": [{"targets": [target.netloc.decode()]}]}],
    }
    (home / "prometheus.json").write_text(json.dumps(config))
    port = free_port()
    command = [
        program,
        f"--config.file={home / 'prometheus.json'}",
        f"--storage.tsdb.path={home / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    child = Child("prometheus", command, log=home / "prometheus.log")
    served = Prometheus(f"http://127.0.0.1:{port}")
    try:
        wait_until(lambda: child.returncode is not None or served.ready(), "Prometheus's answer", timeout=TIMEOUT)
        if child.returncode is not None:
            raise child.failure(f"ended with status {child.returncode}")
        yield served
    finally:
        served.close()
        child.end()


@dataclass
class Watched:
    """The demo's line: shop, Debezium, broker, Postgres, a daemon that runs, and the API's stand-in."""

    rig: Stack
    oms: psycopg.Connection
    shop: Shop
    api: SandboxAdmin
    daemon: DaemonProcess
    child: Child

    @contextmanager
    def trading(self) -> Iterator[None]:
        """The shop is open meanwhile."""
        with trading(self.shop, RATE):
            yield

    def command(self, *arguments: str) -> None:
        """What a person would type; it has to succeed."""
        child = self.daemon.start(*arguments)
        try:
            assert child.wait(TIMEOUT) == 0, child.failure(f"status {child.returncode}")
        finally:
            child.end()

    def reconcile_today(self) -> None:
        """Compare what the API holds of today."""
        today = datetime.now(UTC).date().isoformat()
        self.command("reconcile", "--from", today, "--to", today)

    def scrape(self) -> str:
        """What /metrics shows."""
        return httpx.get(self.daemon.metrics_url, timeout=10, trust_env=False).raise_for_status().text


@contextmanager
def watched(
    note: Callable[[str], None] = lambda _: None,
    by: Callable[[Path, str], AbstractContextManager[object]] = lambda _, __: nullcontext(),
) -> Iterator[Watched]:
    """Everything runs, and the orders of the past are on their way.

    `by` is what scrapes the daemon. It is there first: a rate says nothing of what came before the first scrape.
    """
    with ExitStack() as parts:
        rig = parts.enter_context(Stack(note=note))
        oms = parts.enter_context(closing(rig.postgres.connect(rig.oms)))
        shop = Shop(oms, settle_secs=3)
        shop.open(orders=PAST_ORDERS)
        rig.start_connector()
        sandbox = parts.enter_context(SandboxServer())
        api = parts.enter_context(SandboxAdmin(sandbox.url))
        home = rig.directory / "daemon"
        home.mkdir()
        daemon = DaemonProcess(home, rig, sandbox.url, CHANGES)
        parts.enter_context(by(rig.directory, daemon.metrics_url))
        note("starting the daemon")
        with daemon.running() as child:
            yield Watched(rig, oms, shop, api, daemon, child)


def series(text: str, *, varying: bool = False) -> set[Series]:
    """Name and labels of all that a scrape shows; values that differ from run to run are left out unless `varying`."""
    found = set()
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            blank = set() if varying else VARYING.get(sample.name, set())
            labels = {label: "" if label in blank else value for label, value in sample.labels.items()}
            found.add((sample.name, frozenset(labels.items())))
    return found


def record() -> None:
    """Write the scrape of a demo that has seen a live order, a voided one and a reconcile."""
    with watched(print) as line, line.trading():
        line.api.wait("accepted_orders", PAST_ORDERS // 2, timeout_secs=TIMEOUT)
        line.reconcile_today()
        known = ("order_sync_drift_orders{", "order_sync_orders{")
        wait(lambda: all(name in line.scrape() for name in known), "counts of the leader")
        RECORDED.write_text(line.scrape(), encoding="utf-8")


if __name__ == "__main__":
    record()
