"""The daemon as its users run it: `python -m daemon`, a settings file, an API key in the environment, signals."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from daemon.demo.figures import scrape
from daemon.demo.process import Child, free_port, wait_until
from daemon.demo.stack import CLIENT_PROPERTIES, Stack
from daemon.sandbox.options import DEFAULT_CLIENT_ID, DEFAULT_KEY

MAPPING = Path(__file__).parent / "shop" / "mapping.yaml"
READY_SECS = 60.0
CAUGHT_UP_SECS = 180.0
KEY_VARIABLE = "ORDER_SYNC_API_KEY"
# 0: everything was accepted; 3: orders remain that the mapping holds, as unpaid ones are. The comparison judges.
CAUGHT_UP = (0, 3)

# As in production but for the scale of time: a demo of a minute should see an order debounced, sent and sent again.
QUIET_SECS = 2.0
SETTINGS: dict[str, dict[str, object]] = {
    "debounce": {"quiet_secs": QUIET_SECS, "max_wait_secs": 10},
    "delivery": {
        "start_grace_secs": 2,
        "request_timeout_secs": 10,
        "connect_timeout_secs": 5,
        "vendor_settle_secs": 5,
        "resend_gap_secs": 1,
        "lease_secs": 20,
        "lease_renew_secs": 2,
        "poll_interval_ms": 200,
        "waiting_recheck_secs": 2,
        "backoff_max_secs": 10,
        "max_voids_per_hour": 12_000,  # an hour of a shop goes by in a minute
    },
}


class DaemonProcess:
    """The daemon as its users run it. `changes` are settings by section that differ from the demo's."""

    def __init__(
        self, home: Path, rig: Stack, api_url: str, changes: Mapping[str, Mapping[str, object]] | None = None
    ) -> None:
        self._home = home
        self._changes = changes or {}
        self._port = free_port()
        self._settings = home / "order-sync.json"  # JSON is YAML
        self._settings.write_text(json.dumps(self._content(rig, api_url), indent=2), encoding="utf-8")

    @property
    def metrics_url(self) -> str:
        """Where it tells its figures."""
        return f"http://127.0.0.1:{self._port}/metrics"

    @property
    def example(self) -> str:
        """A command that looks at its state, to be typed in another terminal."""
        command = Path(sys.executable).with_name("order-sync")
        return f"{KEY_VARIABLE}={DEFAULT_KEY} {command} --config {self._settings} status"

    @contextmanager
    def running(self) -> Iterator[Child]:
        """Migrated, started and ready; ended by SIGTERM, which must leave exit status 0."""
        migration = self.start("migrate")
        if migration.wait(READY_SECS) != 0:
            raise migration.failure("migrate failed")
        child = self.start("run")
        try:
            wait_until(
                lambda: child.returncode is not None or scrape(self.metrics_url) is not None,
                "order-sync run: an answer of its metrics",
                timeout=READY_SECS,
            )
            if child.returncode is not None:
                raise child.failure(f"ended with status {child.returncode}")
            yield child
            child.end(signal.SIGTERM, timeout=READY_SECS)
            if child.returncode != 0:
                raise child.failure(f"SIGTERM ended it with status {child.returncode} instead of 0")
        finally:
            child.end()

    def catch_up(self, say: Callable[[str], None]) -> bool:
        """Let a new process do all that is left. False, and said why, where it ends in another way than caught up."""
        child = self.start("run", "--until-caught-up")
        try:
            if child.wait(CAUGHT_UP_SECS) in CAUGHT_UP:
                return True
            status = "is still busy" if child.returncode is None else f"ended with status {child.returncode}"
            say(str(child.failure(f"--until-caught-up {status}")))
            return False
        finally:
            child.end()

    def start(self, *arguments: str, environment: Mapping[str, str] | None = None) -> Child:
        """Start a command of it, with these variables besides its own. The caller ends and reaps the child."""
        clean = {name: value for name, value in os.environ.items() if not name.startswith("ORDER_SYNC_")}
        clean["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))
        return Child(
            f"order-sync {arguments[0]}",
            [sys.executable, "-m", "daemon", "--config", self._settings, *arguments],
            log=self._home / "order-sync.log",
            environment={**clean, KEY_VARIABLE: DEFAULT_KEY, **(environment or {})},
        )

    def _content(self, rig: Stack, api_url: str) -> dict[str, object]:
        kafka = {"bootstrap_servers": rig.broker.bootstrap, "topic_refresh_secs": 2, "properties": CLIENT_PROPERTIES}
        destination = {
            "base_url": api_url,
            "client_id": DEFAULT_CLIENT_ID,
            "api_key_env": KEY_VARIABLE,
            "live_since": "1970-01-01",  # every order of the shop is wanted
        }
        sections = {**SETTINGS, **{name: {**SETTINGS.get(name, {}), **new} for name, new in self._changes.items()}}
        return {
            **sections,
            "mapping": str(MAPPING),
            "kafka": kafka,
            "postgres": {"dsn": rig.postgres.dsn(rig.state)},
            "destinations": {"demo": destination},
            "operate": {"listen_host": "127.0.0.1", "listen_port": self._port, "shutdown_secs": 30},
        }
