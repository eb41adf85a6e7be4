"""The stand-in over HTTP: what `vendor.py` decides, carried out on real connections.

A lost answer needs the connection itself; the server hands a way to cut it in the scope's extensions (`CUT`).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Message, Receive, Scope, Send

from daemon.sandbox.answers import Answer
from daemon.sandbox.holds import Holds, Pulse
from daemon.sandbox.vendor import Arrival, Course, Hold, Vendor

CUT = "order_sync.sandbox.cut"
"""Key in `scope["extensions"]`: a function that ends the connection at once; its argument asks for a TCP reset."""


class Cut(Response):
    """No answer: the connection ends here."""

    def __init__(self, *, reset: bool) -> None:
        super().__init__()
        self._reset = reset

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - nothing is sent
        scope["extensions"][CUT](self._reset)
        await _until_disconnected(receive)


class Sandbox:
    """One vendor on one event loop. Make a new one for each start of a server; the vendor may be the same."""

    def __init__(self, vendor: Vendor, clock: Callable[[], float]) -> None:
        self.vendor = vendor
        self.clock = clock
        self.pulse = Pulse()
        self.holds = Holds(self.pulse.beat)
        self._late: set[asyncio.Task[None]] = set()

    def application(self, routes: list[Route]) -> Starlette:
        """The ASGI application: the Orders API's paths and `routes`."""
        orders = [
            Route("/v2/orders", self._post, methods=["POST"]),
            Route("/v2/orders", self._patch, methods=["PATCH"]),
            Route("/v2/orders", self._get, methods=["GET"]),
        ]
        return Starlette(routes=orders + routes, lifespan=self._lifespan)

    @asynccontextmanager
    async def _lifespan(self, _: Starlette) -> AsyncIterator[None]:
        yield
        self.holds.close()
        await asyncio.gather(*self._late)

    async def _post(self, request: Request) -> Response:
        return await self._judged(request, self.vendor.post)

    async def _patch(self, request: Request) -> Response:
        return await self._judged(request, self.vendor.patch)

    async def _judged(self, request: Request, judge: Callable[[Arrival, float], Course]) -> Response:
        try:
            size, body = await _read(request, self.vendor.options.max_body_bytes)
        except ClientDisconnect:
            return Cut(reset=False)
        return await self._carry_out(judge(_arrival(request, size, body), self.clock()), request)

    async def _get(self, request: Request) -> Response:
        query = request.query_params
        arrival = _arrival(request, 0, b"")
        course = self.vendor.get(arrival, query.get("start_date"), query.get("end_date"), self.clock())
        return await self._carry_out(course, request)

    async def _carry_out(self, course: Course, request: Request) -> Response:
        self.pulse.beat()
        answered = True
        if course.hold_first or course.hold_answer:
            answered = await self._held(course, request)
        else:
            self._apply(course)
        if course.late is not None:
            late = asyncio.create_task(self._apply_late(course, course.late))
            self._late.add(late)
            late.add_done_callback(self._late.discard)
        if not answered or course.answer is None:
            self._end(course, None)
            return Cut(reset=course.reset)
        # before the answer leaves: whoever receives it may send the same order again at once
        self._end(course, course.answer.status)
        return _response(course.answer)

    async def _held(self, course: Course, request: Request) -> bool:
        """Wait and apply as the course says. A sender that gives up ends the request, but not its course."""
        gone = asyncio.create_task(_until_disconnected(request.receive))
        gone.add_done_callback(lambda task: None if task.cancelled() else self._end(course, None))
        try:
            if course.hold_first and not await self.holds.wait(course.hold_first):
                return False
            self._apply(course)
            return not course.hold_answer or await self.holds.wait(course.hold_answer)
        finally:
            gone.cancel()

    async def _apply_late(self, course: Course, hold: Hold) -> None:
        if await self.holds.wait(hold):
            self.vendor.apply(course, self.clock())
            self.pulse.beat()

    def _apply(self, course: Course) -> None:
        if course.applies:
            self.vendor.apply(course, self.clock())
            self.pulse.beat()

    def _end(self, course: Course, status: int | None) -> None:
        self.vendor.end(course, status, self.clock())
        self.pulse.beat()


async def _until_disconnected(receive: Callable[[], Awaitable[Message]]) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _read(request: Request, largest: int) -> tuple[int, bytes | None]:
    """The body's size, and the body unless it is too large. It is read to its end, or the answer would get lost."""
    size = 0
    parts: list[bytes] = []
    async for part in request.stream():
        size += len(part)
        if size <= largest:
            parts.append(part)
    return size, b"".join(parts) if size <= largest else None


def _arrival(request: Request, size: int, body: bytes | None) -> Arrival:
    headers = request.headers
    media_type = headers.get("content-type", "").partition(";")[0].strip().lower()
    return Arrival(
        key=headers.get("authorization", ""),
        client_id=headers.get("data-client-id", ""),
        size=size,
        body=body,
        is_json=media_type == "application/json",
    )


def _response(answer: Answer) -> Response:
    body = b"" if answer.status in (204, 304) else answer.body
    return Response(body, answer.status, dict(answer.headers), media_type="application/json" if body else None)
