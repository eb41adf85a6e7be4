"""The ingest loop on a real broker and a real Postgres."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import corpora_loader
import psycopg
import pytest
from confluent_kafka import Producer
from fixtures.postgres import Database
from mirror_look import Mirror, check_roots, truth

from daemon.demo.stack import PostgresServer
from daemon.ingest.change import Message
from daemon.ingest.kafka import KafkaSource
from daemon.ingest.loop import IngestLoop
from daemon.mapping.structure import Structure
from daemon.operate.health import Health, LoopHealth
from daemon.operate.metrics import Metrics
from daemon.settings import Destination, Ingest, Kafka, Postgres, Settings
from daemon.state.ingest_store import PostgresIngestStore
from daemon.state.migrate import migrate
from daemon.state.schedule import DebouncePolicy

pytestmark = [pytest.mark.postgres, pytest.mark.kafka]

CORPUS = corpora_loader.load("a")
TIMEOUT = 60


@dataclasses.dataclass
class Line:
    """Topics for the tables of a recording, and what it takes to run loops over them."""

    bootstrap: str
    names: dict[str, str]
    structure: Structure
    postgres: Postgres

    def produce(self, messages: Iterable[Message]) -> None:
        """Send recorded messages to this line's topics, partitions as recorded."""
        producer = Producer({"bootstrap.servers": self.bootstrap})
        for m in messages:
            topic = self.names[m.topic.removeprefix("oms.public.")]
            producer.produce(topic, m.value, m.key, partition=m.partition, headers=list(m.headers or []))
            producer.poll(0)
        producer.flush(TIMEOUT)

    @contextmanager
    def running(self, *, group: str = "a", **ingest: Any) -> Iterator[Running]:
        """A loop in a thread of its own; stopped and joined at the end."""
        kafka = Kafka(
            bootstrap_servers=self.bootstrap,
            group_id=f"{group}-{self.names['orders']}",
            properties={"session.timeout.ms": 6000},
            topic_refresh_secs=0.5,
        )
        settings = Settings(
            mapping=Path("unused"),
            kafka=kafka,
            postgres=self.postgres,
            ingest=Ingest(retry_initial_ms=50, retry_max_secs=0.5, **ingest),
            destinations={"a": Destination(client_id="c")},
        )
        metrics, health, stop = Metrics(), Health(stall_secs=30).loop("ingest"), threading.Event()
        loop = IngestLoop(
            settings,
            self.structure,
            PostgresIngestStore(self.postgres, DebouncePolicy(timedelta(0), timedelta(0))),
            KafkaSource(kafka, self.structure.by_topic()),
            metrics,
            health,
            stop,
        )
        failures: list[BaseException] = []

        def guarded() -> None:
            try:
                loop.run(["a"])
            except BaseException as error:  # noqa: BLE001 - told to the test
                failures.append(error)

        thread = threading.Thread(target=guarded)
        thread.start()
        try:
            yield Running(loop, metrics, health)
        finally:
            stop.set()
            thread.join(TIMEOUT)
        assert not thread.is_alive()
        assert not failures


@dataclasses.dataclass
class Running:
    loop: IngestLoop
    metrics: Metrics
    health: LoopHealth

    def ready(self) -> bool:
        return bool(self.health.report(0, 1e9)["ready"])


def line_over(postgres: Postgres, bootstrap: str, make: Callable[..., str], partitions: int = 3) -> Line:
    structure = corpora_loader.structure_for(CORPUS)
    names = {name: make(name, partitions=partitions) for name in structure.sources}
    sources = {name: dataclasses.replace(source, topic=names[name]) for name, source in structure.sources.items()}
    return Line(bootstrap, names, dataclasses.replace(structure, sources=sources), postgres)


def register(connection: psycopg.Connection) -> None:
    connection.execute("set search_path to order_sync")
    connection.execute("insert into destination (name, base_url, client_id) values ('a', 'http://x', 'c')")


@pytest.fixture
def look(database: Database) -> Iterator[psycopg.Connection]:
    """A connection in our schema, with the destination registered."""
    with closing(database.connect()) as connection:
        register(connection)
        yield connection


@pytest.fixture
def line(database: Database, broker: Any, topics: Callable[..., str]) -> Line:
    """Topics and settings of one test."""
    return line_over(database.settings, broker.bootstrap, topics)


def counts(look: psycopg.Connection) -> dict[str, int]:
    row = look.execute(
        "select coalesce(sum(folded), 0)::int, coalesce(sum(stale), 0)::int, coalesce(sum(skipped), 0)::int,"
        " coalesce(sum(rejected), 0)::int, coalesce(sum(greatest(next_offset, 0)), 0)::int from kafka_position"
    ).fetchone()
    return dict(zip(("folded", "stale", "skipped", "rejected", "consumed"), row, strict=True))


def behind(running: Running) -> float:
    """Messages that are not folded yet, as the metric tells."""
    [family] = running.metrics.consumer_lag_messages.collect()
    return sum(sample.value for sample in family.samples)


def is_exact(look: psycopg.Connection) -> bool:
    """Whether the mirror holds the truth of the recording, but for the carts that TRUNCATE left."""
    mirror = Mirror(CORPUS, look)
    for table in CORPUS.tables.values():
        got = mirror.rows(table)
        if any(got.get(key) != row for key, row in truth(table).items()):
            return False
    return True


def test_a_topic_full_of_changes_is_folded_and_counted(
    line: Line, look: psycopg.Connection, eventually: Callable[..., None]
) -> None:
    """What was in Kafka at the start is folded exactly; counts add up; a second start folds nothing anew."""
    line.produce(CORPUS.of_tables())
    with line.running() as running:
        assert running.loop.caught_up.wait(TIMEOUT)
        eventually(running.ready, what="readiness")
        lag = {s.labels["topic"]: s.value for m in running.metrics.consumer_lag_messages.collect() for s in m.samples}
        assert set(lag.values()) == {0}
    assert is_exact(look)
    check_roots(Mirror(CORPUS, look))  # type: ignore[arg-type]
    first = counts(look)
    assert first["folded"] + first["stale"] + first["skipped"] + first["rejected"] == first["consumed"]
    assert first["consumed"] == len(CORPUS.of_tables())
    with line.running() as running:
        assert running.loop.caught_up.wait(TIMEOUT)
    assert counts(look) == first


def test_columns_and_types_are_noted(line: Line, look: psycopg.Connection) -> None:
    """What the messages showed can be read back."""
    line.produce(CORPUS.of_tables())
    with line.running() as running:
        assert running.loop.caught_up.wait(TIMEOUT)
    seen = look.execute(
        "select c.name from source_column c join source s on s.id = c.source where s.name = 'refunds'"
    ).fetchall()
    assert {name for (name,) in seen} == {"id", "order_id", "reason", "shipping_amount", "created_at"}


def test_two_consumers_that_do_not_know_of_each_other_do_no_harm(
    line: Line, look: psycopg.Connection, eventually: Callable[..., None]
) -> None:
    """Both read every partition; the positions in the state let each message count once."""
    half = len(CORPUS.of_tables()) // 2
    line.produce(CORPUS.of_tables()[:half])
    with line.running(group="a") as one, line.running(group="b") as other:
        assert one.loop.caught_up.wait(TIMEOUT)
        assert other.loop.caught_up.wait(TIMEOUT)
        line.produce(CORPUS.of_tables()[half:])
        eventually(lambda: counts(look)["consumed"] == len(CORPUS.of_tables()), timeout=TIMEOUT)
    assert is_exact(look)
    total = counts(look)
    assert total["folded"] + total["stale"] + total["skipped"] == total["consumed"]


def test_a_rebalance_loses_and_doubles_nothing(
    line: Line, look: psycopg.Connection, eventually: Callable[..., None]
) -> None:
    """A member joins and leaves while messages flow: each message counts once, the mirror is exact."""
    quarter = len(CORPUS.of_tables()) // 4 + 1
    chunks = [CORPUS.of_tables()[start : start + quarter] for start in range(0, 4 * quarter, quarter)]
    with line.running() as first:
        line.produce(chunks[0])
        assert first.loop.caught_up.wait(TIMEOUT)
        with line.running() as second:
            line.produce(chunks[1])
            eventually(second.ready, timeout=TIMEOUT, what="the second member's partitions")
            line.produce(chunks[2])
        line.produce(chunks[3])
        eventually(lambda: counts(look)["consumed"] == len(CORPUS.of_tables()), timeout=TIMEOUT)
    assert is_exact(look)
    total = counts(look)
    assert total["folded"] + total["stale"] + total["skipped"] == total["consumed"]


def test_postgres_away_pauses_ingest_and_loses_nothing(
    tmp_path: Path, broker: Any, topics: Callable[..., str], eventually: Callable[..., None]
) -> None:
    """The server is killed with messages waiting: unready, with a lag that is told, until all is folded by itself."""
    with PostgresServer(tmp_path) as server:
        server.create_database("state")
        postgres = Postgres(dsn=server.dsn("state"))
        migrate(postgres)
        with closing(server.connect("state")) as connection:
            register(connection)
        line = line_over(postgres, broker.bootstrap, topics)
        line.produce(CORPUS.of_tables()[:600])
        with line.running() as running:
            assert running.loop.caught_up.wait(TIMEOUT)
            server.kill()
            line.produce(CORPUS.of_tables()[600:900])
            eventually(lambda: not running.ready(), timeout=TIMEOUT, what="the loop to become unready")
            value = running.metrics.registry.get_sample_value
            assert value("order_sync_ingest_paused") == 1
            line.produce(CORPUS.of_tables()[900:1100])  # a fetch that was under way may still tell of these
            eventually(lambda: behind(running) > 300, timeout=TIMEOUT, what="the lag")
            line.produce(CORPUS.of_tables()[1100:])
            eventually(lambda: behind(running) > 500, timeout=TIMEOUT, what="the lag of what came while paused")
            server.start()
            with closing(server.connect("state")) as connection:
                connection.execute("set search_path to order_sync")
                eventually(lambda: counts(connection)["consumed"] == len(CORPUS.of_tables()), timeout=TIMEOUT)
                eventually(running.ready, timeout=TIMEOUT)
                eventually(lambda: behind(running) == 0, timeout=TIMEOUT, what="no lag")
                assert value("order_sync_ingest_paused") == 0
                assert is_exact(connection)


def test_what_cannot_be_decoded_is_kept_and_holds_up_nothing(
    line: Line, look: psycopg.Connection, eventually: Callable[..., None]
) -> None:
    """Broken messages between good ones are rejects with coordinates, reason and raw bytes."""
    orders = [m for m in CORPUS.of_tables() if m.topic == "oms.public.orders"]
    broken = [
        Message("oms.public.orders", 0, 0, None, b'{"id":1}', b"{not json", None),
        Message("oms.public.orders", 0, 0, None, b"\xff\xfe", b"\x00\x01", None),
        Message("oms.public.orders", 0, 0, None, b'{"id":1003}', b"[1, 2]", None),
    ]
    line.produce([*orders[:50], *broken, *orders[50:]])
    with line.running() as running:
        assert running.loop.caught_up.wait(TIMEOUT)
        rejected = sum(s.value for m in running.metrics.rejects_total.collect() for s in m.samples)
    assert rejected == len(broken)
    kept = look.execute("select topic, key, value, reason, detail from rejected_message order by id").fetchall()
    assert sorted((key, value) for _, key, value, _, _ in kept) == sorted((m.key, m.value) for m in broken)
    assert all(topic == line.names["orders"] and reason and detail for topic, _, _, reason, detail in kept)
    assert counts(look)["folded"] + counts(look)["skipped"] == len(orders)


def test_values_that_postgres_refuses_are_rejects_and_hold_up_nothing(
    line: Line, look: psycopg.Connection, eventually: Callable[..., None]
) -> None:
    """A key too long for an index, a NUL in a nested name, an absurd time: each is kept, everything else is folded."""
    orders = [m for m in CORPUS.of_tables() if m.topic == "oms.public.orders"]
    good = next(m.value for m in orders if m.value and b'"op":"c"' in m.value)
    values = [
        good.replace(b'"lsn":', b'"lsn":99999999999999999999,"was":'),
        good.replace(b'"ts_ms":', b'"ts_ms":9999999999999999,"was":'),
        good.replace(b'"connector":"postgresql"', b'"connector":["postgresql"]'),
        good.replace(b'"metadata":', b'"nested":{"a\\u0000b":1},"metadata":'),
    ]
    poison = [
        Message("oms.public.orders", 1, 0, None, b'{"id":%d}' % (9000 + n), v, None) for n, v in enumerate(values)
    ]
    line.produce([*orders[:90], poison[0], poison[1], *orders[90:140], poison[2], *orders[140:], poison[3]])
    with line.running() as running:
        assert running.loop.caught_up.wait(TIMEOUT)
        assert running.loop.halted == {}
    total = counts(look)
    assert total["consumed"] == len(orders) + len(poison)
    assert total["folded"] + total["stale"] + total["skipped"] + total["rejected"] == total["consumed"]
    assert total["rejected"] >= 1
    want = truth(CORPUS.tables["orders"])
    got = Mirror(CORPUS, look).orders_of("orders")
    assert want.keys() <= got.keys()


def test_a_burst_of_rejects_halts_that_topic_and_no_other(
    line: Line, look: psycopg.Connection, eventually: Callable[..., None]
) -> None:
    """Beyond the budget the topic stops where it was, with nothing lost; the others go on."""
    line.produce([m for m in CORPUS.of_tables() if m.topic == "oms.public.customers"])
    line.produce([Message("oms.public.orders", 0, 0, None, b"k", b"junk", None)] * 30)
    customers = sum(m.topic == "oms.public.customers" for m in CORPUS.of_tables())
    with line.running(reject_budget=10) as running:
        eventually(lambda: line.names["orders"] in running.loop.halted, timeout=TIMEOUT)
        eventually(lambda: counts(look)["consumed"] == customers, timeout=TIMEOUT)
        assert not running.ready()
        halted = {
            s.labels["source"]: s.value for m in running.metrics.source_halted.collect() for s in m.samples if s.value
        }
        assert halted == {"orders": 1}
    assert look.execute("select count(*) from rejected_message").fetchone() == (0,)
    assert "reject_budget" in running.loop.halted[line.names["orders"]]


def test_a_topic_that_appears_later_is_read_from_its_beginning(
    line: Line, look: psycopg.Connection, broker: Any, eventually: Callable[..., None]
) -> None:
    """A mapped topic that does not exist yet is no reason to stop; once it is there, nothing of it is missed."""
    late = f"{line.names['orders']}-late"
    sources = dict(line.structure.sources)
    sources["orders"] = dataclasses.replace(sources["orders"], topic=late)
    line.structure = dataclasses.replace(line.structure, sources=sources)
    line.produce([m for m in CORPUS.of_tables() if m.topic == "oms.public.refunds"])
    with line.running() as running:
        assert running.loop.caught_up.wait(TIMEOUT)
        broker.create_topic(late, 3)
        line.names["orders"] = late
        orders = [m for m in CORPUS.of_tables() if m.topic == "oms.public.orders"]
        line.produce(orders)
        refunds = sum(m.topic == "oms.public.refunds" for m in CORPUS.of_tables())
        eventually(lambda: counts(look)["consumed"] == len(orders) + refunds, timeout=TIMEOUT)
