"""What the demo shows while it runs: a table that renews itself on a terminal, else a line every few seconds."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from daemon.demo.figures import Figures

LINE_EVERY_SECS = 5.0


class View:
    """Shows figures where somebody looks, and says what happens."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(highlight=False, soft_wrap=True)
        self._live: Live | None = None
        self._last_line = 0.0

    def say(self, text: str) -> None:
        """A line that stays, as it is."""
        self.console.print(text, markup=False)

    @contextmanager
    def live(self) -> Iterator[None]:
        """While this is open, `show` renews one table, on a terminal."""
        if not self.console.is_terminal:
            yield
            return
        with Live(console=self.console, auto_refresh=False, transient=True) as self._live:
            yield
        self._live = None

    def show(
        self, left_secs: float | None, figures: Figures | None, shop: Mapping[str, int], api: Mapping[str, Any]
    ) -> None:
        """One moment: the daemon's figures (None: it did not answer), what the shop did, the API's counts."""
        if self._live is not None:
            self._live.update(_screen(left_secs, figures, shop, api), refresh=True)
        elif time.monotonic() - self._last_line >= LINE_EVERY_SECS:
            self._last_line = time.monotonic()
            self.say(_line(figures, shop, api))


def _screen(left_secs: float | None, figures: Figures | None, shop: Mapping[str, int], api: Mapping[str, Any]) -> Group:
    table = Table(show_header=False, box=None, padding=(0, 2))
    table.add_column(style="bold")
    table.add_column()
    table.add_row("shop", _counts(shop))
    for name, value in _rows(figures or Figures()):
        table.add_row(name, value)
    table.add_row("API", f"{api['orders']} orders, {api['accepted_orders']} accepted, {api['posts']} posts")
    ends = "Ctrl-C ends the trade" if left_secs is None else f"{max(0.0, left_secs):.0f} s left, Ctrl-C ends the trade"
    head = Text(f"order-sync demo: {ends}" + ("" if figures else "; the daemon does not answer"))
    return Group(head, table)


def _rows(figures: Figures) -> Iterator[tuple[str, str]]:
    yield "lag", f"{figures.lag_messages:.0f} messages ({figures.folded:.0f} folded)"
    yield "freshness", f"{_freshness(figures)} from commit to accept"
    yield "oldest owed", _secs(figures.oldest_owed_secs)
    yield "orders", _counts({name: int(count) for name, count in figures.orders.items()})
    yield "accepted", f"{figures.accepted:.0f} orders; {figures.unchanged:.0f} unchanged, not sent"
    yield "budget", f"{figures.budget_used / 1e6:.2f} of {figures.budget / 1e6:.2f} MB"
    yield "requests", _counts({name: int(count) for name, count in figures.requests.items()})


def _line(figures: Figures | None, shop: Mapping[str, int], api: Mapping[str, Any]) -> str:
    if figures is None:
        return "the daemon does not answer"
    owed = f"{figures.orders.get('owed_live', 0):.0f} live, {figures.orders.get('owed_backfill', 0):.0f} backfill"
    parts = [
        f"shop {sum(shop.values())} actions",
        f"lag {figures.lag_messages:.0f}",
        f"freshness {_freshness(figures)}",
        f"owed {owed}",
        f"requests {sum(figures.requests.values()):.0f}",
        f"API {api['orders']} orders, {api['accepted_orders']} accepted",
    ]
    return " | ".join(parts)


def _freshness(figures: Figures) -> str:
    return f"p50 {_secs(figures.freshness_p50_secs)}, p95 {_secs(figures.freshness_p95_secs)}"


def _secs(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f} s"


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {count}" for name, count in counts.items() if count) or "-"
