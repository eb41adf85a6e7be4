"""An event loop for one simulated process. It runs nothing by itself: the world steps it, and stops stepping it.

A process that is paused is simply not stepped; one that is killed is never stepped again, so that no `finally` of it
runs. Its time is the world's, from a start of its own. What would run in a thread runs inline.
"""

from __future__ import annotations

import asyncio
import heapq
import inspect
import itertools
import selectors
import socket
from asyncio import AbstractEventLoop, Future, Handle, Task, TimerHandle
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context
from typing import Any, TypeVar, TypeVarTuple
from weakref import WeakSet

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

RESOLUTION = 1e-6
"""A timer is due this much early: sums of times are not exact."""


class ProcessLoop(AbstractEventLoop):
    """The event loop of one process, over the monotonic clock that it is given."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._ready: deque[Handle] = deque()
        self._timers: list[tuple[float, int, TimerHandle]] = []
        self._tie = itertools.count()
        self._selector: selectors.BaseSelector | None = None
        self._tasks: WeakSet[Task[Any]] = WeakSet()
        self.dead = False
        self.held = False
        """Paused: nothing of it runs, whatever became ready."""
        self.errors: list[str] = []

    # What the world does with it

    def wakes_at(self) -> float | None:
        """The monotonic time at which there is something to run; None while nothing is ever going to."""
        if self._ready:
            return self._clock()
        while self._timers and self._timers[0][2].cancelled():
            heapq.heappop(self._timers)
        return self._timers[0][0] if self._timers else None

    def step(self) -> None:
        """Run what is ready now, once; then wait for the answers of Postgres, if it asked for any."""
        now = self._clock() + RESOLUTION
        while self._timers and self._timers[0][0] <= now:
            self._ready.append(heapq.heappop(self._timers)[2])
        self._run_ready()
        while self._selector is not None and self._selector.get_map():
            for key, events in self._selector.select():
                for event, handle in key.data.items():
                    if events & event:
                        self._ready.append(handle)
            self._run_ready()

    def complete(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run this to its end without any time passing. For what waits for no timer."""
        task = self.create_task(coroutine)
        while not task.done():
            self.step()
        result: T = task.result()
        return result

    def kill(self) -> None:
        """Nothing of it ever runs again."""
        self.dead = True
        self._ready.clear()
        self._timers.clear()
        for task in self._tasks:
            coroutine = task.get_coro()
            if inspect.iscoroutine(coroutine) and inspect.getcoroutinestate(coroutine) == inspect.CORO_CREATED:
                coroutine.close()  # that it was never awaited is no news

    def _run_ready(self) -> None:
        asyncio._set_running_loop(self)
        try:
            for _ in range(len(self._ready)):
                if self.dead or self.held:
                    break
                handle = self._ready.popleft()
                if not handle.cancelled():
                    handle._run()
        finally:
            asyncio._set_running_loop(None)

    # What asyncio asks of an event loop

    def time(self) -> float:
        return self._clock()

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return not self.dead

    def is_closed(self) -> bool:
        return self.dead

    def call_soon(self, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None) -> Handle:
        handle = Handle(callback, args, self, context)
        if not self.dead:
            self._ready.append(handle)
        return handle

    call_soon_threadsafe = call_soon

    def call_later(
        self, delay: float, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> TimerHandle:
        return self.call_at(self._clock() + delay, callback, *args, context=context)

    def call_at(
        self, when: float, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> TimerHandle:
        timer = TimerHandle(when, callback, args, self, context)
        if not self.dead:
            heapq.heappush(self._timers, (when, next(self._tie), timer))
        return timer

    def _timer_handle_cancelled(self, handle: TimerHandle) -> None:
        """Cancelled timers are dropped when their turn comes."""

    def create_future(self) -> Future[Any]:
        return Future(loop=self)

    def create_task(self, coro: Any, *, name: str | None = None, context: Any = None) -> Task[Any]:
        task = Task(coro, loop=self, name=name, context=context)
        self._tasks.add(task)
        return task

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> Future[Any]:  # type: ignore[override]  # noqa: ARG002
        """There are no threads: it is done when this returns."""
        done = self.create_future()
        try:
            done.set_result(func(*args))
        except Exception as error:  # noqa: BLE001 - as an executor hands it on
            done.set_exception(error)
        return done

    async def getaddrinfo(self, host: Any, port: Any, **options: Any) -> Any:
        return socket.getaddrinfo(host, port, **options)

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """What a living process left unheard is a fault of the program under test."""
        if not self.dead:
            self.errors.append(f"{context.get('message')}: {context.get('exception')!r}")

    # Sockets: Postgres alone has any. World time stands still while one is waited for.

    def add_reader(self, fd: Any, callback: Callable[[*Ts], Any], *args: *Ts) -> None:
        self._watch(fd, selectors.EVENT_READ, Handle(callback, args, self))

    def add_writer(self, fd: Any, callback: Callable[[*Ts], Any], *args: *Ts) -> None:
        self._watch(fd, selectors.EVENT_WRITE, Handle(callback, args, self))

    def remove_reader(self, fd: Any) -> bool:
        return self._unwatch(fd, selectors.EVENT_READ)

    def remove_writer(self, fd: Any) -> bool:
        return self._unwatch(fd, selectors.EVENT_WRITE)

    def _watch(self, fd: Any, event: int, handle: Handle) -> None:
        if self._selector is None:
            self._selector = selectors.DefaultSelector()
        handles = self._watched(fd) | {event: handle}
        if len(handles) == 1 and fd not in self._selector.get_map():
            self._selector.register(fd, event, handles)
        else:
            self._selector.modify(fd, sum(handles), handles)

    def _unwatch(self, fd: Any, event: int) -> bool:
        handles = self._watched(fd)
        if self._selector is None or handles.pop(event, None) is None:
            return False
        if handles:
            self._selector.modify(fd, sum(handles), handles)
        else:
            self._selector.unregister(fd)
        return True

    def _watched(self, fd: Any) -> dict[int, Handle]:
        if self._selector is None or fd not in self._selector.get_map():
            return {}
        return dict(self._selector.get_key(fd).data)
