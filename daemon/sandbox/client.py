"""A small client of the `/_sandbox/` endpoints, for tests and the demo."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from types import TracebackType
from typing import Any, Literal, Self
from urllib.parse import quote

import httpx

from daemon.sandbox.faults import Action, Fault, Match, Method
from daemon.sandbox.vendor import KeyState

Document = dict[str, Any]
"""A parsed order; every number is a Decimal or an int."""


@dataclass(frozen=True, slots=True)
class StoredVersion:
    """One accepted version: `at` is seconds since 1970, `raw` the very bytes that were sent."""

    client_id: str
    order_id: str
    number: int
    at: float
    request: int
    flipped: str | None
    raw: bytes

    @property
    def document(self) -> Document:
        return _document(self.raw)


class SandboxError(Exception):
    """The sandbox refused an admin request; the message is its own."""


class SandboxAdmin:
    """Synchronous; one connection pool. Safe to use while requests are held."""

    def __init__(self, url: str, timeout_secs: float = 30.0) -> None:
        self._http = httpx.Client(base_url=url, timeout=timeout_secs, trust_env=False)

    def close(self) -> None:
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # what it holds

    def raw_orders(self, client_id: str | None = None) -> list[bytes]:
        """The latest document of every order, in the order of first arrival."""
        answer = self._call("GET", "orders", params=_given(client_id=client_id))
        return [line for line in answer.content.split(b"\n") if line]

    def orders(self, client_id: str | None = None) -> dict[str, Document]:
        """The latest document by order id. Give the client id where several destinations write here."""
        return {document["order_id"]: document for document in map(_document, self.raw_orders(client_id))}

    def versions(self, order_id: str, client_id: str | None = None) -> list[StoredVersion]:
        """Every version kept, oldest first; empty for an order that was never accepted."""
        path = f"orders/{quote(order_id, safe='')}"
        found = self._call("GET", path, params=_given(client_id=client_id)).json()
        return [StoredVersion(**{**version, "raw": version["raw"].encode("utf-8")}) for version in found]

    def requests(self) -> list[dict[str, Any]]:
        """The request log, oldest first (`state.Entry`)."""
        found: list[dict[str, Any]] = self._call("GET", "requests").json()
        return found

    def stats(self) -> dict[str, Any]:
        found: dict[str, Any] = self._call("GET", "stats").json()
        return found

    def wait(self, stat: str, least: int = 1, timeout_secs: float = 10.0) -> None:
        """Return once that figure of the stats is reached; TimeoutError if it is not in time."""
        asked: dict[str, str | int | float] = {"stat": stat, "least": least, "timeout_secs": timeout_secs}
        if not self._call("GET", "wait", params=asked, timeout=timeout_secs + 10).json()["reached"]:
            raise TimeoutError(f"{stat} did not reach {least} in {timeout_secs} s")

    # what it does

    def fault(
        self,
        action: Action,
        *,
        method: Method = "POST",
        order_id: str | None = None,
        client_id: str | None = None,
        nth: int = 1,
        count: int | None = 1,
        status: int | None = None,
        seconds: float | None = None,
        body: str | None = None,
        headers: Mapping[str, str] | None = None,
        applied: bool = False,
        reset: bool = True,
    ) -> None:
        """Queue one fault; the arguments are those of `faults.Match` and `faults.Fault`."""
        match = Match(method=method, order_id=order_id, client_id=client_id, nth=nth, count=count)
        asked = Fault(
            action=action,
            match=match,
            status=status,
            seconds=seconds,
            body=body,
            headers=dict(headers or {}),
            applied=applied,
            reset=reset,
        )
        self.faults([asked])

    def faults(self, faults: list[Fault]) -> None:
        self._call("POST", "faults", asked=[fault.model_dump() for fault in faults])

    def clear_faults(self) -> None:
        self._call("DELETE", "faults")

    def release(self) -> int:
        """End every hold of now; says how many."""
        released: int = self._call("POST", "release").json()["released"]
        return released

    def options(self, **changes: Any) -> None:
        """Change switches of `options.SandboxOptions` from now on."""
        self._call("POST", "options", asked=changes)

    def key(self, key: str, state: KeyState = "good", client_id: str | None = None) -> None:
        self._call("POST", "keys", asked={"key": key, "state": state} | _given(client_id=client_id))

    def flip(self, order_id: str | None = None, attribute: str = "purchase_total") -> dict[str, str]:
        """Falsify one stored document; says which: client_id, order_id, attribute."""
        asked = {"attribute": attribute} | _given(order_id=order_id)
        changed: dict[str, str] = self._call("POST", "flip", asked=asked).json()
        return changed

    def forget(self, order_id: str, client_id: str | None = None) -> int:
        """Drop one order, as if it had never come; under how many client ids it was held."""
        path = f"orders/{quote(order_id, safe='')}"
        forgotten: int = self._call("DELETE", path, params=_given(client_id=client_id)).json()["forgotten"]
        return forgotten

    def _call(
        self,
        method: Literal["GET", "POST", "DELETE"],
        path: str,
        *,
        params: Mapping[str, str | int | float] | None = None,
        asked: Any = None,
        timeout: float | None = None,
    ) -> httpx.Response:
        answer = self._http.request(
            method,
            f"/_sandbox/{path}",
            params=params,
            content=None if asked is None else json.dumps(asked),
            timeout=httpx.USE_CLIENT_DEFAULT if timeout is None else timeout,
        )
        if answer.status_code != httpx.codes.OK:
            raise SandboxError(f"{method} /_sandbox/{path}: {answer.status_code}: {answer.text}")
        return answer


def _given(**values: str | None) -> dict[str, str]:
    return {name: value for name, value in values.items() if value is not None}


def _document(raw: bytes) -> Document:
    found: Document = json.loads(raw, parse_float=Decimal)
    return found
