"""How many messages of a topic may turn out undecodable before that is no accident any more."""

from __future__ import annotations

from collections.abc import Mapping


class RejectBudget:
    """Counts rejects per topic in a sliding window. Times are monotonic seconds."""

    def __init__(self, budget: int, window_secs: float) -> None:
        self._budget = budget
        self._window = window_secs
        self._recent: dict[str, list[tuple[float, int]]] = {}
        self._forgiven: dict[str, float] = {}

    def judge(self, counts: Mapping[str, int], now: float) -> dict[str, int]:
        """Topics that these further rejects take over the budget, with how many there are within the window."""
        over = {}
        for topic, count in counts.items():
            total = count + sum(n for at, n in self._recent.get(topic, ()) if now - at < self._window)
            if total > self._budget and now >= self._forgiven.get(topic, now):
                over[topic] = total
        return over

    def note(self, counts: Mapping[str, int], now: float) -> None:
        """These rejects are kept now."""
        for topic, count in counts.items():
            recent = [(at, n) for at, n in self._recent.get(topic, ()) if now - at < self._window]
            self._recent[topic] = [*recent, (now, count)]

    def forgive(self, topic: str, now: float) -> None:
        """A person wants them kept: the topic's budget does not count for one window."""
        self._recent.pop(topic, None)
        self._forgiven[topic] = now + self._window
