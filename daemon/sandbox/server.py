"""Runs the stand-in: in a thread for tests and the demo (`SandboxServer`), or in the foreground (`serve`)."""

from __future__ import annotations

import contextlib
import signal
import socket
import struct
import threading
import time
from asyncio import Transport
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, Self

import uvicorn
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from daemon.sandbox.admin import Admin
from daemon.sandbox.app import CUT, Sandbox
from daemon.sandbox.options import SandboxOptions
from daemon.sandbox.vendor import Vendor

GRACE_SECS = 2
"""What an open request gets at the end; held ones have been given up by then, so it is rarely used up."""


class CuttableProtocol(H11Protocol):
    """uvicorn's connection, which also lets the application end it without an answer."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        inner = self.app

        async def with_cut(scope: Scope, receive: Receive, send: Send) -> None:
            scope.setdefault("extensions", {})[CUT] = lambda reset: cut(self.transport, reset=reset)
            await inner(scope, receive, send)

        self.app = with_cut


def cut(transport: Transport, *, reset: bool) -> None:
    """End a connection at once. A close after a zero linger time sends a reset instead of an end of stream."""
    if transport.is_closing():
        return
    if reset:
        linger = struct.pack("ii", 1, 0)
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    transport.abort()


class _Server(uvicorn.Server):
    """uvicorn, telling when it answers and giving up held requests when it ends."""

    def __init__(self, sandbox: Sandbox, started: Callable[[], None]) -> None:
        super().__init__(
            uvicorn.Config(
                sandbox.application(Admin(sandbox).routes()),
                http=CuttableProtocol,
                ws="none",
                lifespan="on",
                log_config=None,
                access_log=False,
                timeout_keep_alive=60,
                timeout_graceful_shutdown=GRACE_SECS,
            )
        )
        self._sandbox = sandbox
        self._started = started

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._started()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._sandbox.holds.close()
        await super().shutdown(sockets)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """SIGINT and SIGTERM end the server in order; unlike uvicorn's own, they are not raised again afterwards."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(256)
    except OSError:
        listener.close()
        raise
    return listener


def serve(host: str, port: int, options: SandboxOptions, started: Callable[[str], None] | None = None) -> None:
    """Serve until SIGINT or SIGTERM. `started` gets the URL once it answers. OSError if the port is taken."""
    listener = _listen(host, port)
    url = _url(host, listener)
    server = _Server(Sandbox(Vendor(options), time.time), lambda: started(url) if started else None)
    server.run(sockets=[listener])


def _url(host: str, listener: socket.socket) -> str:
    return f"http://{f'[{host}]' if ':' in host else host}:{listener.getsockname()[1]}"


class SandboxServer:
    """A sandbox in a thread. It may be stopped and started again: it then has the same port and remembers everything.

    `clock` gives seconds since 1970 and never goes back; versions, the log and the byte window use it.
    """

    def __init__(
        self,
        options: SandboxOptions | None = None,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._vendor = Vendor(options or SandboxOptions())
        self._clock = clock
        self._host = host
        self._port = port
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None
        self.url = ""

    def start(self) -> None:
        """Returns once requests are answered. OSError if the port is taken. Does nothing while it runs."""
        if self._thread is not None:
            return
        listener = _listen(self._host, self._port)
        self._port = listener.getsockname()[1]
        self.url = _url(self._host, listener)
        ready = threading.Event()
        self._server = server = _Server(Sandbox(self._vendor, self._clock), ready.set)

        def run() -> None:
            try:
                server.run(sockets=[listener])
            finally:
                ready.set()

        self._thread = threading.Thread(target=run, name="sandbox", daemon=True)
        self._thread.start()
        ready.wait()
        if not server.started:
            self.stop()
            raise RuntimeError("the sandbox did not start; its thread has said why")

    def stop(self) -> None:
        """Held requests are cut, others answered; the port is free afterwards. May be called twice."""
        if self._server is not None:
            self._server.should_exit = True
        if self._thread is not None:
            self._thread.join()
        self._server = self._thread = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
