"""The `/_sandbox/` endpoints: faults in, and everything that the stand-in remembers out. They ask for no key.

POST   /_sandbox/faults          a fault, or a list of them (`faults.Fault`)
DELETE /_sandbox/faults          forget the faults that have not been met
POST   /_sandbox/release         end every hold of now
POST   /_sandbox/options         change switches (`options.SandboxOptions`), by name
POST   /_sandbox/keys            {"key", "state": good|revoked|forbidden, "client_id" for a new key}
POST   /_sandbox/flip            {"order_id"?, "attribute"?}: falsify one stored document, says which
GET    /_sandbox/orders          the latest documents, one on each line, as they were sent; ?client_id=
GET    /_sandbox/orders/{id}     every version kept of one order; ?client_id=
DELETE /_sandbox/orders/{id}     forget one order, as if it had never come; ?client_id=
GET    /_sandbox/requests        the request log, oldest first
GET    /_sandbox/stats           counts and gauges
GET    /_sandbox/wait            ?stat=&least=&timeout_secs=: answers once that figure of the stats is reached
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from daemon.sandbox.answers import as_json
from daemon.sandbox.app import Sandbox
from daemon.sandbox.faults import faults_from
from daemon.sandbox.vendor import KeyState, problems_of, versions_as_json

Endpoint = Callable[[Request], Awaitable[Response]]


class KeyChange(BaseModel):
    model_config = ConfigDict(extra="forbid")

    key: str
    state: KeyState = "good"
    client_id: str | None = None


class Sabotage(BaseModel):
    model_config = ConfigDict(extra="forbid")

    order_id: str | None = None
    attribute: str = "purchase_total"


class Wait(BaseModel):
    model_config = ConfigDict(extra="forbid")

    stat: str
    least: int = 1
    timeout_secs: Annotated[float, Field(gt=0, le=300)] = 10.0


class Admin:
    """Handlers over one sandbox."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox
        self._vendor = sandbox.vendor

    def routes(self) -> list[Route]:
        table: list[tuple[str, str, Endpoint]] = [
            ("POST", "faults", self._add_faults),
            ("DELETE", "faults", self._clear_faults),
            ("POST", "release", self._release),
            ("POST", "options", self._options),
            ("POST", "keys", self._keys),
            ("POST", "flip", self._flip),
            ("GET", "orders", self._orders),
            ("GET", "orders/{order_id:path}", self._versions),
            ("DELETE", "orders/{order_id:path}", self._forget),
            ("GET", "requests", self._requests),
            ("GET", "stats", self._stats),
            ("GET", "wait", self._wait),
        ]
        return [Route(f"/_sandbox/{path}", _clear(endpoint), methods=[method]) for method, path, endpoint in table]

    def stats(self) -> dict[str, Any]:
        return self._vendor.stats(self._sandbox.clock()) | {"held": len(self._sandbox.holds)}

    async def _add_faults(self, request: Request) -> Response:
        faults = faults_from(json.loads(await request.body()))
        self._vendor.faults.add(faults)
        return _answer({"queued": len(faults)})

    async def _clear_faults(self, _: Request) -> Response:
        self._vendor.faults.clear()
        return _answer({})

    async def _release(self, _: Request) -> Response:
        return _answer({"released": self._sandbox.holds.release()})

    async def _options(self, request: Request) -> Response:
        changes = json.loads(await request.body())
        if not isinstance(changes, dict):
            raise ValueError("an object of switches is wanted")  # noqa: TRY004 - a caller's mistake, answered as such
        self._vendor.change_options(changes)
        return _answer({})

    async def _keys(self, request: Request) -> Response:
        change = KeyChange.model_validate_json(await request.body())
        self._vendor.set_key(change.key, change.state, change.client_id)
        return _answer({})

    async def _flip(self, request: Request) -> Response:
        asked = Sabotage.model_validate_json(await request.body() or b"{}")
        return _answer(self._vendor.flip(asked.order_id, asked.attribute))

    async def _orders(self, request: Request) -> Response:
        latest = self._vendor.book.latest(request.query_params.get("client_id"))
        # JSON allows line breaks between its tokens only, so a blank in their place keeps the document
        lines = (version.raw.replace(b"\r", b" ").replace(b"\n", b" ") + b"\n" for _, version in latest)
        return Response(b"".join(lines), media_type="application/x-ndjson")

    async def _versions(self, request: Request) -> Response:
        found = self._vendor.book.versions(request.path_params["order_id"], request.query_params.get("client_id"))
        return _answer(versions_as_json(found))

    async def _forget(self, request: Request) -> Response:
        order_id, client_id = request.path_params["order_id"], request.query_params.get("client_id")
        return _answer({"forgotten": self._vendor.book.forget(order_id, client_id)})

    async def _requests(self, _: Request) -> Response:
        return _answer([entry.as_dict() for entry in self._vendor.log])

    async def _stats(self, _: Request) -> Response:
        return _answer(self.stats())

    async def _wait(self, request: Request) -> Response:
        asked = Wait.model_validate(dict(request.query_params))
        if not isinstance(self.stats().get(asked.stat), int):
            raise ValueError(f"stat: {asked.stat} is no figure of the stats")  # noqa: TRY004 - as above
        reached = await self._sandbox.pulse.wait_for(
            lambda: self.stats()[asked.stat] >= asked.least, asked.timeout_secs
        )
        return _answer({"reached": reached})


def _answer(value: Any, status: int = 200) -> Response:
    return Response(as_json(value), status, media_type="application/json")


def _clear(endpoint: Endpoint) -> Endpoint:
    """Answer a caller's mistake with a 400 that says what is wrong."""

    async def handle(request: Request) -> Response:
        try:
            return await endpoint(request)
        except ValidationError as error:
            return _answer({"error": problems_of(error)}, 400)
        except ValueError as error:
            return _answer({"error": str(error)}, 400)

    return handle
