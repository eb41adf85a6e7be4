"""One replica of the daemon as its users run it: settings of its own, `python -m daemon`, signals, its log."""

from __future__ import annotations

import json
import os
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any

from daemon.demo.process import Child
from daemon.sandbox.options import DEFAULT_KEY

KEY_VARIABLE = "ORDER_SYNC_API_KEY"
ASK_SECS = 5.0


class Replica:
    """A home with settings and a log in it. The replica listens on whatever port is free at each start."""

    def __init__(self, home: Path, settings: Mapping[str, Any]) -> None:
        """`settings` are those of the settings file; `operate` gets what a test needs, over which theirs stand."""
        home.mkdir(parents=True, exist_ok=True)
        self.name = home.name
        self._settings = home / "settings.json"  # JSON is YAML
        self._log = home / "order-sync.log"
        operate = {"listen_host": "127.0.0.1", "listen_port": 0, "shutdown_secs": 40}
        operate |= settings.get("operate", {})
        self._settings.write_text(json.dumps({**settings, "operate": operate}), encoding="utf-8")

    def start(self, *arguments: str) -> Child:
        """Start a command of it. The caller ends and reaps the child."""
        clean = {name: value for name, value in os.environ.items() if not name.startswith("ORDER_SYNC_")}
        return Child(
            f"{self.name}: order-sync {arguments[0]}",
            [sys.executable, "-m", "daemon", "--config", self._settings, *arguments],
            log=self._log,
            environment={
                **clean,
                KEY_VARIABLE: DEFAULT_KEY,
                "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
            },
        )

    @property
    def said(self) -> str:
        """All that its processes ever wrote."""
        return self._log.read_text(encoding="utf-8") if self._log.exists() else ""

    def events(self) -> list[dict[str, Any]]:
        """Its log, oldest first. What is no JSON object is an event `unreadable` of level error, with its text."""
        return [_event(line) for line in self.said.splitlines()]

    def get(self, path: str) -> str | None:
        """What the process that was started last answers; None where it does not, or not with success."""
        status, body = self.probe(path)
        return body if status == HTTPStatus.OK else None

    def probe(self, path: str) -> tuple[int, str]:
        """Status and body of what the process that was started last answers; (0, "") where it does not."""
        ports = [event["port"] for event in self.events() if event["event"] == "starting"]
        if not ports:
            return 0, ""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{ports[-1]}{path}", timeout=ASK_SECS) as answer:
                return answer.status, str(answer.read().decode())
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()
        except OSError:
            return 0, ""


def _event(line: str) -> dict[str, Any]:
    try:
        event = json.loads(line)
    except ValueError:
        event = None
    return event if isinstance(event, dict) else {"event": "unreadable", "level": "error", "text": line}
