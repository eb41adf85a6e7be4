"""Freshness: seconds from an order's commit in the OMS to its acceptance, less the debounce.

New orders come steadily and change once: alone; while hot orders change at half the rate at which this daemon, beside
all else that runs here, folds such traffic; while a backlog in the backfill lane uses the rest of the budget. The
commit is the moment at which the event is handed to the broker: Debezium's own time is not in it, the stand-in's answer
of 0.2 s is.
"""

from __future__ import annotations

import itertools
import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from line import backlog, live, strong_broker
from rig import Figure, Size
from running import BYTES_A_SECOND, KNOWN_AND_OWED, QUIET_SECS, Running, running
from workload import order_rows

from daemon.demo.stack import PostgresServer

RATE = 20  # new orders a second
FIRST = 10_000_000  # the number of the first of them
HOT = 500
"""Orders that change all the time: what they cost of the budget must leave room for others."""
HALF = 0.5
WANTED = {"idle": 1.0, "under load": 2.0, "during a backfill": 5.0}
FOLDED = "select sum(folded + stale)::float8 from kafka_position"
DOCUMENT = 600  # bytes, at least


def measure(size: Size) -> list[Figure]:
    """p50 and p99 of each situation, in rounds."""
    figures: list[Figure] = []
    with (
        PostgresServer(durable=True) as server,
        strong_broker() as (broker, name),
        running(server, broker, 60.0) as daemon,
    ):
        daemon.topics.produce(backlog(HOT), op="r")
        daemon.settled(HOT)
        numbers = itertools.count(FIRST)
        figures += _figures(
            "idle", [_round(daemon, numbers, size.fresh_secs) for _ in range(size.rounds)], note=f"from {name}"
        )
        ceiling = _ceiling(daemon, size)
        with _busy(daemon, ceiling * HALF) as reached:
            late = [_round(daemon, numbers, size.fresh_secs) for _ in range(size.rounds)]
        figures += _figures("under load", late, note=f"{reached():,.0f} messages/s beside them, of {ceiling:,.0f}")
        left = _owe(daemon, size)
        late = [_round(daemon, numbers, size.fresh_secs) for _ in range(size.rounds)]
        note = f"{left():,.0f} orders of it were left at the end"
        figures += _figures("during a backfill", late, note=note)
    return figures


def _ceiling(daemon: Running, size: Size) -> float:
    """Messages a second of live traffic that the daemon folds beside all else that runs here, as they come."""
    before, began = daemon.ask(FOLDED)[0], time.monotonic()
    daemon.topics.produce(live(HOT, size.orders), op="u")
    daemon.until(lambda: daemon.ask(FOLDED)[0] >= before + size.orders, "the changes to be folded")
    rate = size.orders / (time.monotonic() - began)
    daemon.settled()
    return rate


def _round(daemon: Running, numbers: Iterator[int], secs: float) -> list[float]:
    """Seconds beyond the debounce of the orders of so many seconds, ascending."""
    placed: dict[int, float] = {}
    began = time.monotonic()
    for count, number in enumerate(itertools.islice(numbers, math.ceil(secs * RATE)), 1):
        placed[number] = time.time()
        daemon.topics.send(order_rows(number))
        time.sleep(max(0.0, began + count / RATE - time.monotonic()))
    least = min(placed), max(placed)

    def settled() -> bool:
        known, owed = daemon.ask(
            f"select {KNOWN_AND_OWED} from order_sync"
            " where order_key between lpad(to_hex(%s), 32, '0')::uuid::text and lpad(to_hex(%s), 32, '0')::uuid::text",
            *least,
        )
        return bool(known == len(placed) and owed == 0)

    daemon.until(settled, "the new orders to be accepted")
    return sorted(daemon.api.versions(f"D-{number}")[-1].at - at - QUIET_SECS for number, at in placed.items())


@contextmanager
def _busy(daemon: Running, rate: float) -> Iterator[Callable[[], float]]:
    """Hot orders change meanwhile, at so many messages a second; says how many it were."""
    stop, sent, began = threading.Event(), [0], time.monotonic()
    took: list[float] = []

    def work() -> None:
        rows = live(HOT, 10**9)
        while not stop.is_set():
            due = int((time.monotonic() - began) * rate) - sent[0]
            daemon.topics.send(itertools.islice(rows, due), op="u")
            sent[0] += due
            stop.wait(0.02)
        took.append(time.monotonic() - began)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield lambda: sent[0] / took[0]
    finally:
        stop.set()
        thread.join()
    daemon.settled()


def _owe(daemon: Running, size: Size) -> Callable[[], float]:
    """Old orders, more than can be sent while live orders are measured, are folded; says how many are left."""
    secs = size.rounds * (size.fresh_secs + 5)
    count = math.ceil(BYTES_A_SECOND * secs / DOCUMENT) + HOT
    daemon.topics.produce((row for number in range(HOT, count) for row in order_rows(number)), op="r")

    def left() -> float:
        return float(daemon.ask("select count(*) from order_sync where lane = 1 and revision > settled_revision")[0])

    # Delivery is held while a backlog is folded, live orders too: that is over then.
    daemon.until(lambda: daemon.ask(FOLDED)[0] >= daemon.topics.messages, "the backlog to be folded")
    return left


def _figures(name: str, rounds: list[list[float]], note: str = "") -> list[Figure]:
    figures = []
    for share in (0.5, 0.99):
        values = [late[max(0, math.ceil(len(late) * share) - 1)] for late in rounds]
        figures.append(Figure(f"freshness {name}, p{share * 100:.0f}", "s", values, note=note))
    figures[1].wanted = f"<= {WANTED[name]:g} s"
    figures[1].holds = figures[1].value <= WANTED[name]
    return figures
