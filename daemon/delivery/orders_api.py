"""POST and PATCH /v2/orders over HTTP: one call, one Answer, and never a doubt about whether a byte of it was written.

The call has one deadline around everything. It does not begin later than it was told to. Connections are closed by a
reset, so that neither an abandoned call nor a killed process leaves bytes behind that the kernel goes on delivering.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
from collections.abc import Callable
from types import TracebackType
from typing import Any, Protocol, Self

import httpcore
import httpx

from daemon.delivery.verdict import Answer, Trouble
from daemon.errors import SettingsError
from daemon.settings import Destination, Http, Secret

PATH = "/v2/orders"
MAX_ANSWER_BYTES = 2_000_000
"""More than a thousand named errors need. What lies beyond is not read."""

IDLE_SECS = 20.0
"""Shorter than the idle time after which usual load balancers drop a connection (60 s)."""


class OrdersApi(Protocol):
    """What the delivery loop needs of the API."""

    async def post(self, body: bytes, *, begin_by: float, timeout_secs: float) -> Answer:
        """POST `body`. Known not sent, if it cannot begin before the monotonic time `begin_by`."""
        ...

    async def patch(self, body: bytes, *, begin_by: float, timeout_secs: float) -> Answer:
        """PATCH `body`, likewise."""
        ...

    def key_changed(self) -> bool:
        """Whether the API key is another one than that of the last call."""
        ...


class HttpOrdersApi:
    """The real thing. An async context manager."""

    def __init__(
        self,
        destination: Destination,
        http: Http,
        connect_timeout_secs: float,
        clock: Callable[[], float],
        secret: Secret | None = None,
    ) -> None:
        """`secret` holds the key where that is not the destination's."""
        self._url = destination.base_url + PATH
        self._client_id = destination.client_id
        self._secret = secret or Secret(destination.api_key_env)
        self._last_key: str | None = None
        self._connect_timeout_secs = connect_timeout_secs
        self._clock = clock
        self._client = httpx.AsyncClient(
            transport=httpx.AsyncHTTPTransport(
                verify=tls_context(http),
                trust_env=False,
                http2=False,
                retries=0,
                proxy=http.proxy,
                limits=httpx.Limits(max_connections=32, max_keepalive_connections=16, keepalive_expiry=IDLE_SECS),
                socket_options=_socket_options(),
            ),
            follow_redirects=False,
            trust_env=False,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._client.aclose()

    def key_changed(self) -> bool:
        """Whether the key is another one than that of the last call; one that cannot be read now has not changed."""
        try:
            return self._last_key is not None and self._secret.read() != self._last_key
        except SettingsError:
            return False

    async def post(self, body: bytes, *, begin_by: float, timeout_secs: float) -> Answer:
        """One POST of prepared bytes. Never raises for anything the network or the vendor does."""
        return await self._call("POST", body, begin_by, timeout_secs)

    async def patch(self, body: bytes, *, begin_by: float, timeout_secs: float) -> Answer:
        """One PATCH of prepared bytes, likewise."""
        return await self._call("PATCH", body, begin_by, timeout_secs)

    async def _call(self, method: str, body: bytes, begin_by: float, timeout_secs: float) -> Answer:
        try:
            key = self._last_key = self._secret.read()
        except SettingsError as error:
            return Answer(trouble=Trouble.NOT_SENT, detail=str(error))
        if not (key.isascii() and key.isprintable()):
            return Answer(
                trouble=Trouble.NOT_SENT, detail=f"{self._secret!r} holds characters that no header can carry"
            )
        began = False

        async def trace(event: str, info: dict[str, Any]) -> None:
            nonlocal began
            request = info.get("request")
            if (
                event == "http11.send_request_headers.started"
                and request is not None
                and request.method == method.encode()
            ):
                if self._clock() > begin_by:
                    raise httpcore.ConnectTimeout("the request could not begin in time")
                began = True

        def ended(trouble: Trouble, error: BaseException) -> Answer:
            said = " ".join(str(error).split()) or type(error).__name__
            return Answer(trouble=trouble if began else Trouble.NOT_SENT, detail=said)

        try:
            async with asyncio.timeout(timeout_secs):
                return await self._exchange(method, key, body, timeout_secs, trace)
        except TimeoutError as error:
            return ended(Trouble.TIMED_OUT, error)
        except httpx.TimeoutException as error:
            return ended(Trouble.TIMED_OUT, error)
        except (httpx.HTTPError, OSError, ssl.SSLError) as error:
            return ended(Trouble.CUT, error)

    async def _exchange(self, method: str, key: str, body: bytes, timeout_secs: float, trace: Any) -> Answer:
        request = self._client.build_request(
            method,
            self._url,
            content=body,
            headers={
                "Authorization": key,
                "Data-Client-ID": self._client_id,
                "Content-Type": "application/json",
                "Accept": "application/json",
                "User-Agent": "northbeam-order-sync",
            },
            timeout=httpx.Timeout(
                connect=min(self._connect_timeout_secs, timeout_secs),
                read=timeout_secs,
                write=timeout_secs,
                pool=timeout_secs,
            ),
            extensions={"trace": trace},
        )
        response = await self._client.send(request, stream=True)
        try:
            content = bytearray()
            async for chunk in response.aiter_bytes():
                content += chunk
                if len(content) > MAX_ANSWER_BYTES:
                    break
        finally:
            await response.aclose()
        headers = {name.lower(): value for name, value in response.headers.items()}
        return Answer(response.status_code, headers, bytes(content))


def tls_context(http: Http) -> ssl.SSLContext:
    """Verification against the CA bundle of the settings, else against the certificates that httpx ships."""
    if http.ca_bundle is None:
        return httpx.create_ssl_context(trust_env=False)
    try:
        return ssl.create_default_context(cafile=str(http.ca_bundle))
    except (OSError, ssl.SSLError) as error:
        raise SettingsError(f"http.ca_bundle: {http.ca_bundle} cannot be used: {error}") from error


def _socket_options() -> list[Any]:
    """Close by reset, at once; and give up on bytes that nobody acknowledges."""
    options: list[Any] = [
        (socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)),
        (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
    ]
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        options.append((socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 10_000))
    return options
