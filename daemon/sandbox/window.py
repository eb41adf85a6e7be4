"""Bytes of the last so many seconds, as the provider counts them: by arrival, for each key."""

from __future__ import annotations

import math
from collections import deque


class ByteWindow:
    """A sliding window. Times are seconds of one clock that does not go back; sizes are bytes.

    A request that is turned away takes no room, so that a client that waits as told gets through.
    """

    def __init__(self) -> None:
        self._arrivals: deque[tuple[float, int]] = deque()
        self._used = 0
        self.peak = 0

    def used(self, now: float, window_secs: float) -> int:
        while self._arrivals and self._arrivals[0][0] + window_secs <= now:
            self._used -= self._arrivals.popleft()[1]
        return self._used

    def admit(self, size: int, now: float, *, budget_bytes: int, window_secs: float) -> int:
        """0 if the request fits, and then it is counted; otherwise whole seconds to wait until it would."""
        used = self.used(now, window_secs)
        if used + size <= budget_bytes:
            self._arrivals.append((now, size))
            self._used += size
            self.peak = max(self.peak, self._used)
            return 0
        excess = used + size - budget_bytes
        for at, old in self._arrivals:
            excess -= old
            if excess <= 0:
                return max(1, math.ceil(at + window_secs - now))
        return max(1, math.ceil(window_secs))
