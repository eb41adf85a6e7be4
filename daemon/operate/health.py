"""Whether the process is alive and whether it is ready, told from the progress of its loops alone.

Alive: every running loop has turned within `stall_secs`. Ready: alive, and every loop says it is. A part that is away
(Kafka, Postgres, the API) makes a loop unready at most; it never ends a pod.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

Report = dict[str, dict[str, object]]


class LoopHealth:
    """What one loop says about itself. Safe to call from any thread."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._turned_at = clock()
        self._ready, self._reason = False, "starting"
        self._stopped = False

    def turned(self) -> None:
        """The loop has gone round once more, whether or not it found work."""
        with self._lock:
            self._turned_at = self._clock()

    def set_ready(self, ready: bool, reason: str = "") -> None:
        """Whether the loop can do its work now; `reason` says why not."""
        with self._lock:
            self._ready, self._reason = ready, "" if ready else reason or "not ready"

    def stopped(self) -> None:
        """The loop ended on purpose: it counts as alive and is not ready any more."""
        with self._lock:
            self._stopped, self._ready, self._reason = True, False, "stopped"

    def report(self, now: float, stall_secs: float) -> dict[str, object]:
        """`live`, `ready`, `turned_secs_ago` and, where something is wrong, `reason`."""
        with self._lock:
            age = max(0.0, now - self._turned_at)
            live = self._stopped or age <= stall_secs
            reason = self._reason if live else f"has not turned for {age:.0f} s (operate.stall_secs: {stall_secs:g})"
            ready = live and self._ready
        report: dict[str, object] = {"live": live, "ready": ready, "turned_secs_ago": round(age, 1)}
        return report if ready else report | {"reason": reason}


class Health:
    """The loops of one process, by name. Safe to call from any thread."""

    def __init__(self, stall_secs: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self._stall_secs = stall_secs
        self._lock = threading.Lock()
        self._loops: dict[str, LoopHealth] = {}

    def loop(self, name: str) -> LoopHealth:
        """The named loop; asked for the first time, it is registered as turning now and not ready."""
        with self._lock:
            return self._loops.setdefault(name, LoopHealth(self.clock))

    def live(self, now: float) -> tuple[bool, Report]:
        """Whether no loop is stalled at monotonic time `now`, and what each loop says."""
        report = self._report(now)
        return all(loop["live"] for loop in report.values()), report

    def ready(self, now: float) -> tuple[bool, Report]:
        """Whether there are loops and all of them are ready, and what each loop says."""
        report = self._report(now)
        return bool(report) and all(loop["ready"] for loop in report.values()), report

    def _report(self, now: float) -> Report:
        with self._lock:
            loops = dict(self._loops)
        return {name: loop.report(now, self._stall_secs) for name, loop in loops.items()}
