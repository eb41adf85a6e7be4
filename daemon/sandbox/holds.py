"""Waiting inside the sandbox: requests that are held, and callers that wait for something to have happened."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from daemon.sandbox.vendor import Hold


class Holds:
    """Held requests and late applications, all of one event loop. `changed` is called when there is one more."""

    def __init__(self, changed: Callable[[], None]) -> None:
        self._changed = changed
        self._held: set[asyncio.Event] = set()
        self._closed = False

    def __len__(self) -> int:
        return len(self._held)

    def release(self) -> int:
        """End every hold of now; says how many."""
        for event in self._held:
            event.set()
        return len(self._held)

    def close(self) -> None:
        """The server ends: what is held is given up."""
        self._closed = True
        self.release()

    async def wait(self, hold: Hold) -> bool:
        """True when the hold is over, False when the server ends."""
        event = asyncio.Event()
        self._held.add(event)
        self._changed()
        try:
            if not self._closed:
                async with asyncio.timeout(hold.seconds):
                    await event.wait()
        except TimeoutError:
            pass
        finally:
            self._held.discard(event)
        return not self._closed


class Pulse:
    """Lets callers wait until a condition over the sandbox's counts is true."""

    def __init__(self) -> None:
        self._changed = asyncio.Event()

    def beat(self) -> None:
        """Something changed: everyone who waits looks again."""
        self._changed.set()
        self._changed = asyncio.Event()

    async def wait_for(self, condition: Callable[[], bool], timeout_secs: float) -> bool:
        """Whether the condition became true in time."""
        try:
            async with asyncio.timeout(timeout_secs):
                while not condition():
                    await self._changed.wait()
        except TimeoutError:
            return False
        return True
