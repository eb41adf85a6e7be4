"""Deliver: how much of the API's byte budget a backlog uses, what changed orders cost, and what equal documents cost.

The daemon runs as a process beside the API's stand-in, which counts bytes on arrival and answers after 0.2 s. A
request's bytes count until `window` after its answer, so a latency allows budget / (window + latency).
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator

from assemble import Orders
from line import backlog
from rig import Figure, Size
from running import BYTES_A_SECOND, Running, running
from workload import LINES, Named, order_rows

from daemon.demo.stack import Broker, PostgresServer

SHARE = 0.97
CHANGED = 1000
WINDOWS = 3
SPARE_WINDOWS = 2.5  # the first one is not measured, the last ones must not run dry
CHANGES = 5  # of each order, within the debounce


def measure(size: Size) -> list[Figure]:
    """Share of the budget, bytes of an order, requests."""
    document = Orders(CHANGED).bytes()
    count = math.ceil((_windows(size) + SPARE_WINDOWS) * BYTES_A_SECOND * size.window_secs / document)
    with (
        PostgresServer(durable=True) as server,
        Broker() as broker,
        running(server, broker, size.window_secs) as daemon,
    ):
        daemon.topics.produce(backlog(count))
        daemon.settled(count)
        figures = [*_budget(daemon, size), *_orders(daemon)]
        changed = range(min(CHANGED, count))
        figures += [_equal(daemon, changed), _sent(daemon, changed)]
        stats = daemon.api.stats()
    refused = float(sum(n for status, n in stats["statuses"].items() if status != "200"))
    figure = Figure("deliver refused", "answers other than 200", [refused], wanted="none")
    figure.holds = refused == 0 and stats["budget_violations"] == 0
    figure.note = f"at most {stats['peak_bytes_in_window']:,} bytes in any window"
    return [*figures, figure]


def _windows(size: Size) -> int:
    return min(size.rounds, WINDOWS)  # a window is as long as a round of all else


def _budget(daemon: Running, size: Size) -> Iterator[Figure]:
    """Bytes of each window after the first, beside what the latency allows."""
    sent = daemon.look.execute(
        "select extract(epoch from reserved_at - min(reserved_at) over ())::float8,"
        " extract(epoch from settled_at - reserved_at)::float8, bytes from delivery_request order by 1"
    ).fetchall()
    latency = statistics.mean(took for _, took, _ in sent)
    turn = size.window_secs + latency
    windows = [
        float(sum(count for at, _, count in sent if number * turn <= at < (number + 1) * turn))
        for number in range(1, _windows(size) + 1)
    ]
    allowed = [BYTES_A_SECOND * size.window_secs] * len(windows)
    figure = Figure("deliver", "bytes/window", windows, "what the latency allows", allowed)
    figure.wanted = f">= {SHARE:.0%} of {figure.to}"
    figure.holds = (figure.ratio or 0) >= SHARE
    figure.note = f"windows of {size.window_secs:g} s, a latency of {latency:.2f} s"
    yield figure


def _orders(daemon: Running) -> Iterator[Figure]:
    requests, orders, size = daemon.ask(
        "select count(*)::float8, sum(orders)::float8, sum(bytes)::float8 from delivery_request"
    )
    yield Figure("deliver order", "bytes/order", [size / orders], note="the whole request's, of a backlog")
    yield Figure("deliver batch", "orders/request", [orders / requests], note="of a backlog")


def _equal(daemon: Running, orders: range) -> Figure:
    """What changes of columns cost that are in no document."""
    before = _revisions(daemon), _asked(daemon)
    rows = [next(order_rows(number)) for number in orders]
    daemon.topics.produce(
        ((source, key, row | {"updated_at": "2026-03-05T08:00:00Z"}) for source, key, row in rows), op="u"
    )
    daemon.until(lambda: _revisions(daemon) >= before[0] + len(orders), "the changes to be folded")
    daemon.settled()
    figure = Figure("deliver equal documents", "requests", [_asked(daemon) - before[1]], wanted="none")
    figure.holds = figure.value == 0
    figure.note = f"{len(orders)} orders changed where no document shows it"
    return figure


def _sent(daemon: Running, orders: range) -> Figure:
    """How often an order goes out whose rows change several times within the debounce."""
    before = _revisions(daemon), _asked(daemon), _named(daemon)
    for turn in range(1, CHANGES + 1):
        daemon.topics.produce(_requantified(orders, turn + 1), op="u")
    daemon.until(lambda: _revisions(daemon) > before[0], "the changes to be folded")
    daemon.settled()
    named, requests = _named(daemon) - before[2], _asked(daemon) - before[1]
    figure = Figure("deliver changed orders", "times sent/order", [named / len(orders)])
    figure.note = f"{len(orders)} orders, {CHANGES} changes each; {requests / len(orders):.4f} requests for each order"
    return figure


def _requantified(orders: range, quantity: int) -> Iterator[Named]:
    """The first line of each order says another quantity."""
    for number in orders:
        source, key, row = list(order_rows(number))[1 : 1 + LINES][0]
        yield source, key, row | {"quantity": quantity}


def _revisions(daemon: Running) -> float:
    return float(daemon.ask("select sum(revision)::float8 from order_sync")[0])


def _asked(daemon: Running) -> float:
    return float(daemon.ask("select count(*)::float8 from delivery_request")[0])


def _named(daemon: Running) -> float:
    return float(daemon.ask("select coalesce(sum(orders), 0)::float8 from delivery_request")[0])
