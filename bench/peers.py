"""Peers: what others take to bring the same snapshot from the same topics into the same Postgres.

Quix Streams with its Postgres sink upserts the rows into a table for each source: it keeps positions in Kafka alone,
finds no roots and marks no orders. It gets an environment of its own, which is made on first use.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

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
    calm_collector()
    interpreter = _environment("quix", QUIX)
    with PostgresServer(durable=True) as server, Broker() as broker:
        topics = Topics(broker)
        topics.produce(backlog(size.orders // 2))
        ours: list[float] = []
        quix: list[float] = []

        def fold() -> None:
            with state(server) as postgres:
                folding = Folding(settings_of(topics, postgres), topics.structure)
                started = time.perf_counter()
                folding.run()
                ours.append(topics.messages / (time.perf_counter() - started))
                folding.close()

        def peer() -> None:
            with state(server) as postgres:
                quix.append(topics.messages / _quix(interpreter, topics, postgres))

        in_turn(size.rounds, [fold, peer])
    figure = at_least(Figure("fold beside Quix Streams", "messages/s", ours, "Quix Streams", quix), TIMES)
    figure.note = f"{topics.messages} messages; {QUIX}, 5,000 messages to a commit"
    return [figure]


def _quix(interpreter: Path, topics: Topics, postgres: Postgres) -> float:
    """Seconds. Every row must have come."""
    parts = conninfo_to_dict(postgres.dsn)
    known = {"host": "localhost", "port": 5432, "password": ""} | {
        name: parts[name] for name in ("host", "port", "dbname", "user", "password") if parts.get(name) is not None
    }
    sources = topics.structure.sources.values()
    asked = {
        "bootstrap": topics.bootstrap,
        "tables": {s.topic: {"table": s.name, "key": list(s.key or ("id",))} for s in sources},
        "messages": topics.messages,
        "postgres": known,
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
    with looking(postgres) as connection:
        counts = [connection.execute(f"select count(*) from public.{s.name}").fetchone() for s in sources]
    assert sum(count[0] for count in counts if count) == topics.messages, "Quix Streams lost rows"
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
