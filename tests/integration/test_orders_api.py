"""One POST over HTTP: what was sent, what came back, and whether anything left at all."""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from time import monotonic
from typing import Any

import pytest
from fixtures.sandbox import RunningSandbox

from daemon.delivery.orders_api import HttpOrdersApi
from daemon.delivery.verdict import Answer, Trouble
from daemon.errors import SettingsError
from daemon.settings import Destination, Http

BODY = b'[{"order_id": "A-1"}]'


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sandbox's key."""
    monkeypatch.setenv("ORDER_SYNC_API_KEY", "sandbox-key")


def with_api(
    url: str, scenario: Callable[[HttpOrdersApi], Coroutine[Any, Any, None]], http: Http | None = None
) -> None:
    """Play a scenario with an adapter to `url`."""

    async def whole() -> None:
        destination = Destination(base_url=url, client_id="sandbox-client")
        async with HttpOrdersApi(destination, http or Http(), 1.0, monotonic) as api:
            await scenario(api)

    asyncio.run(whole())


async def post(api: HttpOrdersApi, *, begin_in: float = 5.0, secs: float = 5.0) -> Answer:
    """One POST."""
    return await api.post(BODY, begin_by=monotonic() + begin_in, timeout_secs=secs)


@contextmanager
def server(behave: Callable[[socket.socket], None]) -> Iterator[str]:
    """A server that does one thing to each connection."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                behave(connection)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(5)


def test_headers_are_those_of_the_contract() -> None:
    """The key goes raw, beside the client id and the content type; the body goes as it is."""
    seen: list[bytes] = []

    def behave(connection: socket.socket) -> None:
        data = b""
        while BODY not in data:
            data += connection.recv(65536)
        seen.append(data)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}")

    async def scenario(api: HttpOrdersApi) -> None:
        assert (await post(api)).status == 200

    with server(behave) as url:
        with_api(url, scenario)
    head = seen[0].decode().lower()
    assert head.startswith("post /v2/orders http/1.1\r\n")
    assert "\r\nauthorization: sandbox-key\r\n" in head
    assert "\r\ndata-client-id: sandbox-client\r\n" in head
    assert "\r\ncontent-type: application/json\r\n" in head
    assert seen[0].endswith(b"\r\n\r\n" + BODY)


def test_refused_connection_is_known_not_sent(sandbox: RunningSandbox) -> None:
    """Nobody listens: nothing left."""
    sandbox.server.stop()

    async def scenario(api: HttpOrdersApi) -> None:
        assert (await post(api)).trouble is Trouble.NOT_SENT

    with_api(sandbox.url, scenario)


def test_post_that_cannot_begin_in_time_is_not_sent(sandbox: RunningSandbox) -> None:
    """After its grace a POST does not begin, on a fresh connection or on one that is open; the next one does."""

    async def scenario(api: HttpOrdersApi) -> None:
        assert (await post(api, begin_in=-1.0)).trouble is Trouble.NOT_SENT
        assert (await post(api)).status == 400
        assert (await post(api, begin_in=-1.0)).trouble is Trouble.NOT_SENT
        assert (await post(api)).status == 400

    with_api(sandbox.url, scenario)
    assert sandbox.admin.stats()["posts"] == 2


@pytest.mark.parametrize("reset", [True, False])
def test_cut_after_the_first_byte_is_unknown(sandbox: RunningSandbox, reset: bool) -> None:
    """A connection that ends without an answer leaves the outcome open."""
    sandbox.admin.fault("drop_before", reset=reset)

    async def scenario(api: HttpOrdersApi) -> None:
        assert (await post(api)).trouble is Trouble.CUT

    with_api(sandbox.url, scenario)


def test_connection_that_died_idle_is_unknown_or_replaced_but_never_sent_twice(sandbox: RunningSandbox) -> None:
    """A kept connection that the server closed meanwhile: one POST makes one request at most."""
    requests: list[bytes] = []

    def behave(connection: socket.socket) -> None:
        data = connection.recv(65536)
        while data and BODY not in data:
            data += connection.recv(65536)
        requests.append(data)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")  # keep-alive promised, then cut
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    async def scenario(api: HttpOrdersApi) -> None:
        for expected in (1, 2, 3):
            answer = await post(api)
            assert answer.status == 200 or answer.trouble in (Trouble.CUT, Trouble.NOT_SENT)
            assert len(requests) <= expected

    with server(behave) as url:
        with_api(url, scenario)


def test_deadline_surrounds_the_whole_call() -> None:
    """An answer that trickles, one byte at a time, does not stretch the deadline; the connection ends by a reset."""
    ended: list[str] = []

    def behave(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        connection.settimeout(0.05)
        try:
            while True:
                connection.sendall(b" ")
                try:
                    if connection.recv(1) == b"":
                        ended.append("closed")
                        return
                except TimeoutError:
                    pass
        except ConnectionError:
            ended.append("reset")

    async def scenario(api: HttpOrdersApi) -> None:
        before = monotonic()
        answer = await post(api, secs=0.4)
        assert answer.trouble is Trouble.TIMED_OUT
        assert monotonic() - before < 2.0

    with server(behave) as url:
        with_api(url, scenario)
    assert ended == ["reset"]


def test_redirect_is_not_followed() -> None:
    """A redirect is an answer; the key goes nowhere else."""

    def behave(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(
            b"HTTP/1.1 307 Moved\r\nLocation: http://127.0.0.1:9/\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        )

    async def scenario(api: HttpOrdersApi) -> None:
        assert (await post(api)).status == 307

    with server(behave) as url:
        with_api(url, scenario)


def test_proxy_of_the_settings_is_used() -> None:
    """With a proxy configured the request goes there, and a proxy that is away means nothing was sent."""
    seen: list[bytes] = []

    def behave(connection: socket.socket) -> None:
        seen.append(connection.recv(65536))
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}")

    async def through(api: HttpOrdersApi) -> None:
        assert (await post(api)).status == 200

    async def away(api: HttpOrdersApi) -> None:
        assert (await post(api)).trouble is Trouble.NOT_SENT

    with server(behave) as proxy:
        with_api("http://orders.example", through, Http(proxy=proxy))
    assert seen[0].startswith(b"POST http://orders.example/v2/orders ")
    with_api("http://orders.example", away, Http(proxy="http://127.0.0.1:9"))


def test_tunnel_that_the_proxy_refuses_is_known_not_sent() -> None:
    """A CONNECT is not the POST: where the proxy refuses it, nothing reached the API."""

    def behave(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n")

    async def scenario(api: HttpOrdersApi) -> None:
        assert (await post(api)).trouble is Trouble.NOT_SENT

    with server(behave) as proxy:
        with_api("https://orders.example", scenario, Http(proxy=proxy))


def test_key_is_read_anew_for_every_call(sandbox: RunningSandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """A replaced key is noticed and used; without one nothing is sent."""

    async def scenario(api: HttpOrdersApi) -> None:
        assert not api.key_changed()
        assert (await post(api)).status == 400
        monkeypatch.setenv("ORDER_SYNC_API_KEY", "other")
        assert api.key_changed()
        assert (await post(api)).status == 401
        assert not api.key_changed()
        monkeypatch.delenv("ORDER_SYNC_API_KEY")
        answer = await post(api)
        assert answer.trouble is Trouble.NOT_SENT
        assert "ORDER_SYNC_API_KEY" in answer.detail
        monkeypatch.setenv("ORDER_SYNC_API_KEY", "two\nlines")
        answer = await post(api)
        assert answer.trouble is Trouble.NOT_SENT
        assert "two" not in answer.detail

    with_api(sandbox.url, scenario)


def test_ca_bundle_that_cannot_be_read_is_refused_at_start(tmp_path: Any) -> None:
    """The message names the setting."""

    async def scenario(_api: HttpOrdersApi) -> None:
        raise AssertionError("not reached")

    with pytest.raises(SettingsError, match=r"http\.ca_bundle"):
        with_api("https://orders.example", scenario, Http(ca_bundle=tmp_path / "none.pem"))
