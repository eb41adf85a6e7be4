"""Faults that the sandbox was told to show, and the queue that decides which request meets which."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, model_validator

Action = Literal["status", "delay", "drop_before", "drop_after", "apply_late"]
Method = Literal["POST", "PATCH", "GET"]


class Match(BaseModel):
    """Which requests a fault is for: from the `nth` that fits on, `count` of them (null: without end)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: Method = "POST"
    order_id: str | None = None
    client_id: str | None = None
    nth: Annotated[int, Field(ge=1)] = 1
    count: Annotated[int, Field(ge=1)] | None = 1

    def fits(self, method: str, client_id: str, order_ids: Collection[str]) -> bool:
        return (
            method == self.method
            and self.client_id in (None, client_id)
            and (self.order_id is None or self.order_id in order_ids)
        )


class Fault(BaseModel):
    """One misbehaviour.

    status       answer `status` with `body` and `headers`; nothing is applied, unless `applied`
    delay        hold the request `seconds` (null: until released) and then go on as usual; with `applied` the orders
                 are applied at once and only the answer is held
    drop_before  cut the connection without an answer; nothing is applied
    drop_after   apply, then cut the connection without an answer
    apply_late   cut the connection, or answer `status` where one is given; apply `seconds` later (null: on release)
    `reset` says how a connection is cut: by a TCP reset, or else by an orderly close.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    action: Action
    match: Match = Match()
    status: Annotated[int, Field(ge=200, le=599)] | None = None
    seconds: Annotated[float, Field(ge=0)] | None = None
    body: str | None = None
    headers: dict[str, str] = {}
    applied: bool = False
    reset: bool = True

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.action == "status" and self.status is None:
            raise ValueError("action `status` needs a `status`")
        if self.status is not None and self.action not in ("status", "apply_late"):
            raise ValueError(f"action `{self.action}` takes no `status`")
        if self.seconds is not None and self.action not in ("delay", "apply_late"):
            raise ValueError(f"action `{self.action}` takes no `seconds`")
        return self


_FAULTS: TypeAdapter[list[Fault]] = TypeAdapter(list[Fault])


def faults_from(asked: Any) -> list[Fault]:
    """Faults from parsed JSON or YAML: one, or a list. Raises pydantic's ValidationError, which names every mistake."""
    return _FAULTS.validate_python(asked if isinstance(asked, list) else [asked])


@dataclass(slots=True)
class _Queued:
    fault: Fault
    seen: int = 0
    fired: int = 0


class FaultQueue:
    """Faults in the order they were asked for. A request meets at most one: the first that is its turn."""

    def __init__(self) -> None:
        self._queue: list[_Queued] = []

    def __len__(self) -> int:
        return len(self._queue)

    def add(self, faults: Collection[Fault]) -> None:
        self._queue.extend(_Queued(fault) for fault in faults)

    def clear(self) -> None:
        self._queue.clear()

    def pick(self, method: str, client_id: str, order_ids: Collection[str]) -> Fault | None:
        """The fault of this request. Every fault that fits counts it as seen; only the one returned is used up."""
        chosen: _Queued | None = None
        for queued in self._queue:
            if queued.fault.match.fits(method, client_id, order_ids):
                queued.seen += 1
                if chosen is None and queued.seen >= queued.fault.match.nth:
                    chosen = queued
        if chosen is None:
            return None
        chosen.fired += 1
        if chosen.fault.match.count is not None and chosen.fired >= chosen.fault.match.count:
            self._queue.remove(chosen)
        return chosen.fault
