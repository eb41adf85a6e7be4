"""What the daemon takes of memory while it reads a long backlog, and while Postgres is away.

ORDER_SYNC_TEST_SOAK_MESSAGES is how many messages (2,000,000), ORDER_SYNC_TEST_SOAK_AWAY_SECS for how long Postgres is
away (60).
"""

from __future__ import annotations

import logging
import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import corpora_loader
import pytest
from confluent_kafka import Producer
from daemon_rig import Replica
from fixtures.kafka_server import KafkaNode

from daemon.demo.daemon_process import KEY_VARIABLE
from daemon.demo.process import Child, wait_until
from daemon.demo.stack import CLIENT_PROPERTIES, PostgresServer
from daemon.ingest.change import Message
from daemon.sandbox.client import SandboxAdmin
from daemon.sandbox.options import DEFAULT_CLIENT_ID
from daemon.sandbox.server import SandboxServer

MESSAGES = int(os.environ.get("ORDER_SYNC_TEST_SOAK_MESSAGES", "2000000"))
AWAY_SECS = float(os.environ.get("ORDER_SYNC_TEST_SOAK_AWAY_SECS", "60"))
LIMIT = 200_000_000
FLAT = 10_000_000  # the second half of an absence may show this much more than the first: noise of the allocator
TIMEOUT = 1800
SAMPLE_SECS = 0.2
STATUS = re.compile(r"^(VmRSS|VmHWM):\s+(\d+) kB$", re.MULTILINE)

CORPUS = corpora_loader.load("a")
TABLES = ("orders", "order_lines", "refunds", "refund_lines", "customers")
MAPPING = (Path(__file__).parent.parent / "corpus_mapping.yaml").read_text(encoding="utf-8")
# What makes a recorded row another one: its keys, the keys it refers to, the order's number, its place in the log.
NUMBERS = re.compile(
    rb'"(?:id|order_id|customer_id|refund_id|order_line_id|lsn)":(?!0\b)(\d+)|"order_no":"#(\d+)"|\\"(\d+)\\"\]'
)
STEP = 10_000_000  # more than the keys and the log positions of the recording span


class Template:
    """A recorded message that can be made again as that of another row, of the same kind and about the same size."""

    def __init__(self, message: Message) -> None:
        self.table = message.topic.removeprefix("oms.public.")
        self.partition = message.partition
        self._key = _parted(message.key or b"")
        self._value = None if message.value is None else _parted(message.value)

    def made(self, generation: int) -> tuple[bytes, bytes | None]:
        """Key and value in the n-th repetition of the recording."""
        shift = generation * STEP
        return _joined(self._key, shift), None if self._value is None else _joined(self._value, shift)


Parted = tuple[bytes, tuple[int, ...]]


def _parted(text: bytes) -> Parted:
    """A format string, and the numbers to put into it once they are shifted."""
    parts, numbers, end = [], [], 0
    for found in NUMBERS.finditer(text):
        [group] = [number for number in (1, 2, 3) if found[number] is not None]
        parts.append(text[end : found.start(group)].replace(b"%", b"%%"))
        numbers.append(int(found[group]))
        end = found.end(group)
    return b"%d".join([*parts, text[end:].replace(b"%", b"%%")]), tuple(numbers)


def _joined(parted: Parted, shift: int) -> bytes:
    form, numbers = parted
    return form % tuple([number + shift for number in numbers])


TEMPLATES = [Template(message) for message in CORPUS.of_tables() if message.topic.split(".")[-1] in TABLES]
GENERATIONS = max(2, MESSAGES // len(TEMPLATES))


@dataclass
class Load:
    """Repetitions of the recording, produced in order by a thread of its own. `produced` counts messages."""

    bootstrap: str
    names: dict[str, str]
    properties: dict[str, str] = field(default_factory=dict)
    produced: int = 0
    bytes: int = 0

    @contextmanager
    def running(self, generations: range) -> Iterator[Callable[[], None]]:
        """Produce these repetitions meanwhile; call what is given to wait for their end."""
        failures: list[BaseException] = []
        stop = threading.Event()

        def work() -> None:
            try:
                self._produce(generations, stop)
            except BaseException as error:  # noqa: BLE001 - told to the test
                failures.append(error)

        def wait() -> None:
            thread.join(TIMEOUT)
            assert not thread.is_alive()
            assert not failures

        thread = threading.Thread(target=work)
        thread.start()
        try:
            yield wait
        finally:
            stop.set()
            wait()

    def _produce(self, generations: range, stop: threading.Event) -> None:
        producer = Producer(
            {"bootstrap.servers": self.bootstrap, "linger.ms": 20, **self.properties},
            logger=logging.getLogger("librdkafka"),
        )
        for generation in generations:
            if stop.is_set():
                return
            for template in TEMPLATES:
                key, value = template.made(generation)
                while True:
                    try:
                        producer.produce(self.names[template.table], value, key, partition=template.partition)
                        break
                    except BufferError:
                        producer.poll(0.1)
                self.bytes += len(key) + len(value or b"")
            producer.poll(0)
            self.produced += len(TEMPLATES)
        assert producer.flush(TIMEOUT) == 0


class Meter:
    """Looks at a process's resident memory now and then."""

    def __init__(self, pid: int) -> None:
        self._status = Path(f"/proc/{pid}/status")
        self.curve: list[tuple[float, int]] = []

    def peak(self) -> int:
        """The most that it ever had, in bytes, as the kernel knows it."""
        return self._read()["VmHWM"]

    def most(self, begin: float, end: float) -> int:
        """The most that was seen between two moments of the monotonic clock, in bytes."""
        return max(size for at, size in self.curve if begin <= at <= end)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Samples in a thread of its own."""
        stop = threading.Event()

        def work() -> None:
            while not stop.wait(SAMPLE_SECS):
                self.curve.append((time.monotonic(), self._read()["VmRSS"]))

        thread = threading.Thread(target=work)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()

    def _read(self) -> dict[str, int]:
        return {name: int(size) * 1024 for name, size in STATUS.findall(self._status.read_text())}


@dataclass
class State:
    """The state's server and what is asked of it, on a connection for each question: it comes and goes."""

    server: PostgresServer

    def consumed(self) -> int:
        """Messages that the durable counts tell."""
        return self._number(
            "select coalesce(sum(folded + stale + skipped + rejected), 0) from order_sync.kafka_position"
        )

    def positions(self) -> int:
        """The sum of all positions: as many messages, as there is nothing else in these topics."""
        return self._number("select sum(greatest(next_offset, 0)) from order_sync.kafka_position")

    def rejected(self) -> int:
        """Messages that could not be decoded."""
        return self._number("select sum(rejected) from order_sync.kafka_position")

    def rows(self) -> dict[str, int]:
        """Rows of each source that are not deleted."""
        with closing(self.server.connect()) as connection:
            return dict(
                connection.execute(
                    "select s.name, count(*)::int from order_sync.source_row r"
                    " join order_sync.source s on s.id = r.source where not r.deleted group by s.name"
                ).fetchall()
            )

    def _number(self, statement: str) -> int:
        with closing(self.server.connect()) as connection:
            row = connection.execute(statement).fetchone()
        assert row is not None
        return int(row[0])


@pytest.mark.soak
@pytest.mark.apache_kafka
@pytest.mark.postgres
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="resident memory is read from Linux's /proc")
def test_memory_stays_within_bounds(kafka: KafkaNode, kafka_topics: Callable[..., str], tmp_path: Path) -> None:
    """A backlog of millions, Postgres away for a minute in the middle of it while more arrives, then delivery at work:
    never more than 200 MB, flat while it waits, and every message counted and every row there at the end.
    """
    load = Load(kafka.bootstrap, {table: kafka_topics(table) for table in TABLES})
    mapping = tmp_path / "mapping.yaml"
    text = MAPPING
    for table, topic in load.names.items():
        text = text.replace(f"TOPIC-{table}\n", f"{topic}\n")
    mapping.write_text(text, encoding="utf-8")
    # What it acknowledged it keeps over a kill; that the disk keeps it is not at stake.
    options = {"synchronous_commit": "on", "full_page_writes": "on", "max_wal_size": "2GB"}
    with PostgresServer(tmp_path / "postgres", options=options) as server, SandboxServer() as sandbox:
        replica = Replica(
            tmp_path / "daemon",
            {
                "mapping": str(mapping),
                "kafka": {
                    "bootstrap_servers": kafka.bootstrap,
                    "group_id": load.names["orders"],
                    "properties": CLIENT_PROPERTIES,
                },
                "postgres": {"dsn": server.dsn()},
                "destinations": {
                    "test": {
                        "base_url": sandbox.url,
                        "client_id": DEFAULT_CLIENT_ID,
                        "api_key_env": KEY_VARIABLE,
                        "live_since": "1970-01-01",
                    }
                },
            },
        )
        migration = replica.start("migrate")
        assert migration.wait(TIMEOUT) == 0, migration.failure("migrate failed")
        migration.end()
        child = replica.start("run")
        try:
            _soak(child, load, State(server), sandbox.url)
        finally:
            child.end()


def _soak(child: Child, load: Load, state: State, api_url: str) -> None:
    def wait(condition: Callable[[], bool], what: str) -> None:
        wait_until(lambda: child.returncode is not None or condition(), what, timeout=TIMEOUT, interval=0.5)
        assert child.returncode is None, child.failure(f"ended by itself with {child.returncode}")

    total = GENERATIONS * len(TEMPLATES)
    meter, began = Meter(child.pid), time.monotonic()
    # Some of it comes only while Postgres is away.
    late = max(1, GENERATIONS // 10)
    with meter.running():
        with load.running(range(GENERATIONS - late)) as produced:
            wait(lambda: state.consumed() >= total // 3, "a third of the messages to be folded")
            produced()
        state.server.kill()
        gone = time.monotonic()
        with load.running(range(GENERATIONS - late, GENERATIONS)) as produced:
            assert child.wait(AWAY_SECS) is None, child.failure("ended while Postgres was away")
            back = time.monotonic()
            state.server.start()
            produced()
        wait(lambda: state.consumed() >= total, "all to be folded")
        folded = time.monotonic()
        with SandboxAdmin(api_url) as api:
            wait(lambda: api.stats()["accepted_orders"] >= min(GENERATIONS * 50, 10_000), "orders to be accepted")
        middle = (gone + back) / 2
        first, second = meter.most(gone, middle), meter.most(middle, back)
        peak = meter.peak()
        print(
            f"\n{total} messages, {load.bytes / 1e6:.0f} MB, folded in {folded - began:.0f} s "
            f"({total / (folded - began - AWAY_SECS):.0f} a second but for {AWAY_SECS:g} s without Postgres)\n"
            f"resident: {meter.curve[0][1] / 1e6:.0f} MB at first, at most {peak / 1e6:.0f} MB, "
            f"{first / 1e6:.0f} and {second / 1e6:.0f} MB in the halves of the absence"
        )
    assert load.produced == total
    assert state.consumed() == state.positions() == total
    assert state.rejected() == 0
    assert state.rows() == {table: GENERATIONS * len(CORPUS.tables[table].rows) for table in TABLES}
    assert second <= first + FLAT
    assert peak <= LIMIT
