"""The POSTs of one process: those under its present leadership, and those that outlived it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from daemon.delivery.destination import Send
from daemon.delivery.orders_api import OrdersApi
from daemon.delivery.verdict import Answer, Trouble
from daemon.settings import Delivery

LATE_SLACK_SECS = 1.0
"""A request may end this much after its deadline before it is taken for one of a process that was paused."""


@dataclass(frozen=True, slots=True)
class Posted:
    """A POST that ended. `late`: after the time in which it had to."""

    send: Send
    answer: Answer
    secs: float
    size: int
    late: bool


class Posts:
    """Starts POSTs and hands out those that ended.

    A POST that ends after its leadership is late: a newer leader may have sent its orders meanwhile, and been
    overwritten. `late_keys` are the orders of such, until they are recorded as owed anew.
    """

    def __init__(self, api: OrdersApi, settings: Delivery, clock: Callable[[], float]) -> None:
        self._api = api
        self._settings = settings
        self._clock = clock
        self._open: dict[asyncio.Task[Posted], Send] = {}
        self._orphans: dict[asyncio.Task[Posted], Send] = {}
        self.late_keys: set[str] = set()

    def __len__(self) -> int:
        return len(self._open)

    @property
    def tasks(self) -> set[asyncio.Task[Posted]]:
        """All that still run or were not looked at."""
        return {*self._open, *self._orphans}

    @property
    def busy(self) -> bool:
        """Whether anything is left to record."""
        return bool(self._open or self._orphans or self.late_keys)

    def start(self, send: Send, request: int, started: float) -> None:
        """POST (or PATCH) these; `started` is the moment before their row began to be written."""
        self._open[asyncio.create_task(self._post(send, started), name=f"request {request}")] = send

    async def _post(self, send: Send, started: float) -> Posted:
        chosen = self._settings
        body = b"[" + b",".join(item.document.body for item in send.items) + b"]"
        begun = self._clock()
        send_body = self._api.patch if send.items[0].clears else self._api.post
        answer = await send_body(
            body, begin_by=started + chosen.start_grace_secs, timeout_secs=chosen.request_timeout_secs
        )
        ended = self._clock()
        latest = started + chosen.start_grace_secs + chosen.request_timeout_secs + LATE_SLACK_SECS
        return Posted(send, answer, ended - begun, len(body), late=ended > latest)

    def any_ended(self) -> bool:
        """Whether `next_ended` would give something."""
        return any(task.done() for task in self._open)

    def next_ended(self) -> Posted | None:
        """A POST of the present leadership that ended, once; None if there is no other."""
        for task in self._open:
            if task.done():
                del self._open[task]
                return task.result()
        return None

    def abandon(self, unrecorded: Iterable[str]) -> None:
        """The leadership is over, with requests open and the outcome of those of `unrecorded` orders not recorded."""
        self._orphans.update(self._open)
        self._open = {}
        self.late_keys.update(unrecorded)

    def collect_late(self) -> set[str]:
        """Orders of POSTs that ended late."""
        for task in [task for task in self._orphans if task.done()]:
            send = self._orphans.pop(task)
            if not _never_sent(task):
                self.late_keys.update(item.key for item in send.items)
        return set(self.late_keys)

    def cancel(self) -> None:
        """End all at once, by a reset."""
        for task in self.tasks:
            task.cancel()


def _never_sent(task: asyncio.Task[Posted]) -> bool:
    return not task.cancelled() and task.exception() is None and task.result().answer.trouble is Trouble.NOT_SENT
