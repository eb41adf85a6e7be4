"""Processes: how fast one, two and four processes of a group fold the same backlog.

Each is the daemon as its users run it (`run --role ingest`). Counted is from the moment at which the first message is
in the state until all are.
"""

from __future__ import annotations

import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from daemon_rig import Replica
from line import Topics, backlog
from rig import Figure, Size, looking, resident_mb, state
from running import TIMEOUT, settings_file

from daemon.demo.process import wait_until
from daemon.demo.stack import Broker, PostgresServer
from daemon.settings import Postgres

COUNTS = (1, 2, 4)


def measure(size: Size) -> list[Figure]:
    """Messages a second for each number of processes, and how much memory each of them took."""
    figures = {count: Figure(f"fold by {count} processes", "messages/s", [], "one process") for count in COUNTS}
    memory = Figure("fold memory of a process", "MB resident", [], note="of the largest one")
    with PostgresServer(durable=True) as server, Broker() as broker:
        topics = Topics(broker)
        topics.produce(backlog(size.orders))
        for turn in range(size.rounds):
            for count, figure in figures.items():
                with state(server, registered=False) as postgres:
                    rate, resident = _fold(topics, postgres, count, f"{topics.suffix}-{turn}-{count}")
                figure.values.append(rate)
                memory.values.append(resident)
    for figure in figures.values():
        figure.to_values = figures[1].values
    return [*figures.values(), memory]


def _fold(topics: Topics, postgres: Postgres, count: int, group: str) -> tuple[float, float]:
    """Messages a second, and the largest resident memory at the end, MB."""
    with tempfile.TemporaryDirectory() as directory, looking(postgres) as look, ExitStack() as ending:
        children = []
        for number in range(count):
            home = Path(directory) / str(number)
            home.mkdir()
            settings = dict(settings_file(home, topics, postgres, "http://127.0.0.1:9", 60))
            settings["kafka"] = {**settings["kafka"], "group_id": group}
            child = Replica(home / "replica", settings).start("run", "--role", "ingest")
            ending.callback(child.end)
            children.append(child)

        def folded() -> int:
            row = look.execute("select coalesce(sum(folded + stale + skipped + rejected), 0)::int from kafka_position")
            return int((row.fetchone() or [0])[0])

        wait_until(lambda: folded() > 0, "the first batch to be folded", timeout=TIMEOUT)
        first, began = folded(), time.perf_counter()
        wait_until(lambda: folded() >= topics.messages, "all to be folded", timeout=TIMEOUT)
        rate = (topics.messages - first) / (time.perf_counter() - began)
        return rate, max(resident_mb(child.pid) for child in children)
