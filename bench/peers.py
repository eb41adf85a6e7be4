"""Peers: what others take to bring the same snapshot from the same topics into the same Postgres.

Quix Streams with its Postgres sink upserts the rows into a table for each source: it keeps positions in Kafka alone,
finds no roots and marks no orders. It gets an environment of its own, which is made on first use. Debezium's JDBC sink
is measured by `jdbc_sink.py`, so that either figure is taken where the other cannot be.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from line import Folding, Topics, backlog, settings_of
from psycopg.conninfo import conninfo_to_dict
from rig import HERE, Figure, Size, at_least, in_turn, looking, state

from daemon.app import calm_collector
from daemon.demo.stack import Broker, PostgresServer, RigError
from daemon.settings import Postgres

QUIX = "quixstreams[postgresql]==3.28.1"
TIMES = 10
LIMIT_SECS = 1800


def measure(size: Size) -> list[Figure]:
    """A snapshot, folded by the daemon's ingest and by Quix Streams in turn."""
    interpreter = _environment("quix", QUIX)
    with PostgresServer(durable=True) as server, Broker() as broker:
        topics = Topics(broker)
        topics.produce(backlog(size.orders // 2))
        figure = beside("Quix Streams", size.rounds, server, topics, partial(_quix, interpreter, topics))
    figure.note = f"{topics.messages} messages; {QUIX}, 5,000 messages to a commit"
    return [at_least(figure, TIMES)]


def beside(name: str, rounds: int, server: PostgresServer, topics: Topics, peer: Callable[[Postgres], float]) -> Figure:
    """Messages a second of the daemon's ingest and of a peer in turn, each into a fresh database.

    `peer` gives seconds and leaves the rows of each source in a table of its name: every row must have come.
    """
    calm_collector()
    figure = Figure(f"fold beside {name}", "messages/s", [], name)
    sources = topics.structure.sources

    def fold() -> None:
        with state(server) as postgres:
            folding = Folding(settings_of(topics, postgres), topics.structure)
            started = time.perf_counter()
            folding.run()
            figure.values.append(topics.messages / (time.perf_counter() - started))
            folding.close()

    def other() -> None:
        with state(server) as postgres:
            figure.to_values.append(topics.messages / peer(postgres))
            with looking(postgres) as connection:
                counts = [connection.execute(f"select count(*) from public.{s}").fetchone() for s in sources]
            assert sum(count[0] for count in counts if count) == topics.messages, f"{name} lost rows"

    in_turn(rounds, [fold, other])
    return figure


def address(postgres: Postgres) -> dict[str, Any]:
    """host, port, dbname, user and password of a database."""
    parts = conninfo_to_dict(postgres.dsn)
    return {"host": "localhost", "port": 5432, "password": ""} | {
        name: parts[name] for name in ("host", "port", "dbname", "user", "password") if parts.get(name) is not None
    }


def _quix(interpreter: Path, topics: Topics, postgres: Postgres) -> float:
    """Seconds."""
    sources = topics.structure.sources.values()
    asked = {
        "bootstrap": topics.bootstrap,
        "tables": {s.topic: {"table": s.name, "key": list(s.key or ("id",))} for s in sources},
        "messages": topics.messages,
        "postgres": address(postgres),
    }
    with tempfile.TemporaryDirectory() as directory:  # Quix keeps its state beside itself
        done = subprocess.run(
            [interpreter, HERE / "quix_peer.py"],
            input=json.dumps(asked),
            capture_output=True,
            text=True,
            check=False,
            cwd=directory,
            timeout=LIMIT_SECS,
        )
    if done.returncode != 0:
        raise RigError(f"Quix Streams: {done.stderr[-2000:]}")
    return float(json.loads(done.stdout)["seconds"])


def _environment(name: str, requirement: str) -> Path:
    """The interpreter of a virtual environment that has this package."""
    home = HERE.parent / f".venv-{name}"
    interpreter = home / "bin" / "python"
    ready = home / ".ready"
    if not ready.exists() or ready.read_text() != requirement:
        for command in (
            [sys.executable, "-m", "venv", "--clear", home],
            [interpreter, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", requirement],
        ):
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode != 0:
                raise RigError(f"{requirement} cannot be installed: {done.stderr.strip()[-500:]}")
        ready.write_text(requirement)
    return interpreter
