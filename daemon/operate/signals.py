"""Signals that ask for an end, heard outside the handler.

A handler runs in the main thread between any two of its instructions, also within `Event.wait` or a write of the log:
to set the event there, or to log, waits for a lock that the same thread holds, for ever. So it writes one byte.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, TypeAlias

ASKING = (signal.SIGTERM, signal.SIGINT)

_Handler: TypeAlias = "Callable[[int, FrameType | None], Any] | int | signal.Handlers | None"


@contextmanager
def asked_to_stop(heard: Callable[[signal.Signals], None]) -> Iterator[None]:
    """While open, SIGTERM and SIGINT call `heard` in a thread of its own; the same signal again ends the process.

    To be opened in the main thread; raises ValueError elsewhere. At exit the handlers are as before, and `heard` has
    returned.
    """
    reading, writing = os.pipe()

    def handle(number: int, _: FrameType | None) -> None:
        os.write(writing, bytes([number]))
        signal.signal(number, signal.SIG_DFL)

    def listen() -> None:
        while told := os.read(reading, 1):
            heard(signal.Signals(told[0]))

    thread = threading.Thread(target=listen, name="signals", daemon=True)
    thread.start()
    before: dict[signal.Signals, _Handler] = {}
    try:
        for number in ASKING:
            before[number] = signal.signal(number, handle)
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        os.close(writing)
        thread.join()
        os.close(reading)
