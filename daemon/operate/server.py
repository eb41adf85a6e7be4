"""The port that is scraped and probed: `/metrics`, `/livez`, `/readyz`.

It reads memory only and never waits for a part.
"""

from __future__ import annotations

import json
import sys
import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import structlog
from prometheus_client import CONTENT_TYPE_LATEST

from daemon.errors import SettingsError
from daemon.operate.health import Health
from daemon.operate.metrics import Metrics

log = structlog.get_logger()

READ_SECS = 10  # a client that opens a connection and says nothing holds its thread no longer than this


class OperateServer:
    """A running server. `stop` may be called twice."""

    def __init__(self, server: ThreadingHTTPServer) -> None:
        self._server = server
        self._thread = threading.Thread(target=server.serve_forever, args=(0.1,), name="operate", daemon=True)
        self._stopped = False
        self._thread.start()

    @classmethod
    def start(cls, host: str, port: int, metrics: Metrics, health: Health) -> OperateServer:
        """Serve from a thread of its own; port 0 takes a free one. Raises SettingsError where it cannot listen."""
        try:
            return cls(_Server((host, port), _handler(metrics, health)))
        except OSError as error:
            raise SettingsError(
                f"operate: cannot listen on {host}:{port}: {error.strerror}; "
                "choose another operate.listen_host or operate.listen_port"
            ) from error

    @property
    def port(self) -> int:
        """The port it listens on."""
        return int(self._server.server_address[1])

    def stop(self) -> None:
        """Stop listening and wait for the thread."""
        if not self._stopped:
            self._stopped = True
            self._server.shutdown()
            self._server.server_close()
            self._thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False  # an idle keep-alive connection must not hold up the end of the process

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002 - the parent's names
        """Who asks and does not wait for the answer is no event; the parent would print a trace."""
        error = sys.exc_info()[1]
        if not isinstance(error, ConnectionError):
            log.error("answer failed", exc_info=error)


def _handler(metrics: Metrics, health: Health) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = READ_SECS

        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            if path == "/metrics":
                for name, loop in health.ready(health.clock())[1].items():
                    metrics.loop_ready.labels(name).set(bool(loop["ready"]))
                self._answer(HTTPStatus.OK, CONTENT_TYPE_LATEST, metrics.exposition())
            elif path == "/livez":
                self._report("live", *health.live(health.clock()))
            elif path == "/readyz":
                self._report("ready", *health.ready(health.clock()))
            else:
                self._answer(HTTPStatus.NOT_FOUND, "text/plain", b"/metrics /livez /readyz\n")

        do_HEAD = do_GET  # noqa: N815 - the name http.server looks for

        def _report(self, what: str, good: bool, loops: dict[str, dict[str, object]]) -> None:
            status = HTTPStatus.OK if good else HTTPStatus.SERVICE_UNAVAILABLE
            body = json.dumps({what: good, "loops": loops}, indent=2).encode() + b"\n"
            self._answer(status, "application/json", body)

        def _answer(self, status: HTTPStatus, kind: str, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the parent's name
            """A probe every few seconds is no event."""

    return Handler
