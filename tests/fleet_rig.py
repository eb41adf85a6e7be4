"""Three replicas over one Apache Kafka and one state, and what befalls them: rebalances, kills, sleep, servers away.

The state lies in a Postgres server of its own, so that it can go away while the shop trades on.
"""

from __future__ import annotations

import json
import random
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg
from confluent_kafka import ConsumerGroupState, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined]
from corpora_loader import pg_text
from daemon_rig import Replica
from fixtures.kafka_server import KafkaServer
from ingest_rig import QUIET, WATCH, steps_back
from kill_rig import SCALED

from daemon.demo.daemon_process import KEY_VARIABLE, MAPPING
from daemon.demo.process import Child, wait_until
from daemon.demo.shop.shop import Shop
from daemon.demo.stack import CLIENT_PROPERTIES, PostgresServer, Stack
from daemon.mapping.keys import row_key
from daemon.mapping.loader import load_mapping
from daemon.mapping.structure import Source
from daemon.sandbox.client import SandboxAdmin
from daemon.sandbox.options import DEFAULT_CLIENT_ID
from daemon.sandbox.server import SandboxServer

NAMES = ("one", "two", "three")
GUEST = "guest"
GROUP = "fleet"
TIMEOUT = 240  # of one thing that must happen, on a machine that may be busy with others
ASK_SECS = 10
ASLEEP_SECS = 5  # a transaction without a statement for this long is a sleeper's
SOURCES = load_mapping(MAPPING).structure.by_topic()

Ends = dict[tuple[str, int], int]


@dataclass(frozen=True)
class Books:
    """What the state tells of one partition, and where Kafka says that it ends."""

    topic: str
    partition: int
    next_offset: int
    counted: int
    rejected: int
    end: int

    @property
    def add_up(self) -> bool:
        """Whether it was read to its end and every message was counted once; there are no markers between them."""
        return self.counted == max(0, self.next_offset) == self.end and self.rejected == 0


@dataclass
class Fleet:
    """The replicas by name, the processes of those that run, and how often what befell them."""

    stack: Stack
    kafka: KafkaServer
    state: PostgresServer
    oms: psycopg.Connection
    shop: Shop
    api: SandboxAdmin
    lots: random.Random
    replicas: dict[str, Replica]
    running: dict[str, Child] = field(default_factory=dict)
    befell: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self._admin = self._asker()

    def start(self, name: str) -> None:
        """Start a replica; returns once it is ready, which it is as a member of the group."""
        replica = self.replicas[name]
        child = self.running[name] = replica.start("run")
        self._await(lambda: bool(replica.get("/readyz")), f"{name} to be ready")
        assert child.returncode is None

    def end(self, name: str) -> None:
        """SIGTERM, which must leave exit status 0."""
        child = self.running.pop(name)
        child.send(signal.SIGTERM)
        status = child.wait(TIMEOUT)
        child.end()
        assert status == 0, child.failure(f"SIGTERM ended it with {status}")

    def pass_time(self, least: float, most: float) -> None:
        """Let a span of the clock go by, drawn by lot, in which nobody ends who was not told to."""
        assert next(iter(self.running.values())).wait(self.lots.uniform(least, most)) is None
        self.all_alive()

    def all_alive(self) -> None:
        """Nobody has ended who was not told to."""
        for child in self.running.values():
            assert child.returncode is None, child.failure(f"ended by itself with {child.returncode}")

    def settle(self) -> None:
        """Return once the group rests with all that run, they are ready, and all is folded that is in Kafka now."""
        names = list(self.running)
        self._await(lambda: self.members() == len(names), f"a group of {len(names)}")
        self._await(lambda: all(self.replicas[name].get("/readyz") for name in names), "all to be ready")
        self._await_folded()

    def close(self) -> None:
        """Kill what still runs."""
        for child in self.running.values():
            child.end()

    # what may befall them

    def restart(self) -> None:
        """One ends in order and comes again."""
        name = self._any()
        self.end(name)
        self.pass_time(0, 2)
        self.start(name)

    def visit(self) -> None:
        """A fourth joins, does its share, and leaves."""
        self.start(GUEST)
        self.settle()
        self.end(GUEST)

    def zombie(self) -> None:
        """One sleeps until the group has gone on without it, and wakes up with what it held."""
        child = self.running[self._any()]
        child.send(signal.SIGSTOP)
        try:
            self._await(lambda: self.members() == len(self.running) - 1, "the group to go on without a sleeper")
            ends = self.ends()
            self._await(lambda: self.folded(ends) or self._asleep_in_transaction(), "the others to do its share")
            self.befell["asleep inside a transaction"] += not self.folded(ends)
        finally:
            child.send(signal.SIGCONT)

    def kill(self) -> None:
        """One is killed with -9, anywhere, and comes again."""
        self.pass_time(0, 3)
        name = self._any()
        self.running.pop(name).end(signal.SIGKILL)
        self.pass_time(0, 2)
        self.start(name)

    def kafka_away(self) -> None:
        """The broker is killed with -9, is away for a while, and comes again with its data."""
        self.kafka.kill()
        self.pass_time(1, 4)
        self.kafka.start()
        self._admin = self._asker()  # one that has seen several restarts may get no answers about groups any more

    def state_away(self) -> None:
        """The state's server is killed with -9, is away for a while, and recovers."""
        self.state.kill()
        self.pass_time(3, 6)
        self.state.start()

    # what is seen from outside

    def members(self) -> int:
        """How many the group has and has given partitions to; -1 while it does not rest or cannot be asked."""
        future = self._admin.describe_consumer_groups([GROUP], request_timeout=ASK_SECS)[GROUP]
        try:
            group = future.result(ASK_SECS + 1)
        except KafkaException:
            return -1
        return len(group.members) if group.state == ConsumerGroupState.STABLE else -1

    def ends(self) -> Ends:
        """Where the partitions of the mapped topics end; waited for while a broker that has just come says no."""
        found: list[Ends] = []

        def told() -> bool:
            try:
                found.append(self._told_ends())
            except KafkaException:
                return False
            return True

        self._await(told, "Kafka to tell the ends")
        return found[-1]

    def folded(self, ends: Ends) -> bool:
        """Whether every position is at these ends or past them."""
        stored = {(book.topic, book.partition): book.next_offset for book in self.books(ends)}
        return all(stored.get(name, 0) >= end for name, end in ends.items() if end)

    def books(self, ends: Ends) -> list[Books]:
        """The books of every partition, with these ends."""
        found = self.ask(
            "select o.topic, o.partition, p.next_offset, p.folded + p.stale + p.skipped + p.rejected, p.rejected"
            " from order_sync.kafka_position p join order_sync.origin o on o.id = p.origin order by 1, 2"
        )
        return [
            Books(topic, number, at, counted, rejected, ends[topic, number])
            for topic, number, at, counted, rejected in found
        ]

    def owed(self) -> int:
        """How many orders are owed a delivery or are in flight."""
        [(count,)] = self.ask(
            "select count(*) from order_sync.order_sync where revision > settled_revision or request_id is not null"
        )
        return int(count)

    def steps_back(self) -> list[Any]:
        """Positions that ever moved back."""
        with closing(self.state.connect(Stack.state)) as state:
            state.execute("set search_path to order_sync")
            return steps_back(state)

    def ask(self, statement: str) -> list[Any]:
        """All rows of a statement over the state, on a connection of its own: the server comes and goes."""
        with closing(self.state.connect(Stack.state)) as state:
            return state.execute(statement).fetchall()

    def catch_up(self) -> Ends:
        """Return once all is folded and accepted that was committed in the OMS; the ends in Kafka."""
        self.stack.await_connector(timeout=TIMEOUT)
        ends = self.ends()
        self._await(lambda: self.folded(ends), "all to be folded")
        self._await(lambda: not self.owed(), "all orders to be accepted")
        return ends

    def mirror_differences(self) -> list[str]:
        """Where the mirrored rows differ from the OMS's tables: source, key, and columns. No values."""
        return [
            f"{source.name} {key}: {what}"
            for source in SOURCES.values()
            for key, what in _differences(self._rows_of_oms(source), self._rows_of_mirror(source))
        ]

    def errors(self) -> list[dict[str, Any]]:
        """What the replicas logged as errors, but for Kafka being away, which it was."""
        return [
            event
            for replica in self.replicas.values()
            for event in replica.events()
            if event["level"] in ("error", "critical") and not _kafka_is_away(event)
        ]

    def count_events(self, event: str) -> int:
        """How often the replicas logged it."""
        return sum(found["event"] == event for replica in self.replicas.values() for found in replica.events())

    def _told_ends(self) -> Ends:
        partitions = [TopicPartition(topic, number) for topic in SOURCES for number in range(3)]
        latest = OffsetSpec.latest()  # type: ignore[no-untyped-call]
        self._admin.list_topics(timeout=ASK_SECS)  # else the client asks by a leader's epoch of before a restart
        answers = self._admin.list_offsets(dict.fromkeys(partitions, latest), request_timeout=ASK_SECS)
        return {(at.topic, at.partition): future.result(ASK_SECS + 1).offset for at, future in answers.items()}

    def _asker(self) -> AdminClient:
        return AdminClient({"bootstrap.servers": self.kafka.bootstrap}, logger=QUIET)

    def _any(self) -> str:
        return self.lots.choice(sorted(self.running))

    def _await(self, condition: Callable[[], bool], what: str) -> None:
        def seen() -> bool:
            self.all_alive()
            return condition()

        wait_until(seen, what, timeout=TIMEOUT, interval=0.1)

    def _await_folded(self) -> None:
        ends = self.ends()
        self._await(lambda: self.folded(ends), "what is in Kafka to be folded")

    def _asleep_in_transaction(self) -> bool:
        [(count,)] = self.ask(
            "select count(*) from pg_stat_activity where application_name = 'order-sync'"
            f" and state = 'idle in transaction' and clock_timestamp() - state_change > interval '{ASLEEP_SECS} s'"
        )
        return bool(count)

    def _rows_of_oms(self, source: Source) -> dict[str, dict[str, str | None]]:
        """The table's rows by canonical key, in PostgreSQL's own text output."""
        types = self._columns(source)
        texts = ", ".join(f"case when {name} is not null then format('%s', {name}) end" for name, _ in types)
        rows = {}
        for values in self.oms.execute(f"select {texts} from {_table(source)}"):
            row = {name: _comparable(text, kind) for (name, kind), text in zip(types, values, strict=True)}
            rows[row_key([row[name] for name in source.key or ()])] = row
        return rows

    def _rows_of_mirror(self, source: Source) -> dict[str, dict[str, str | None]]:
        """The live rows of the mirror, in PostgreSQL's words; a column that is not known is `unknown`."""
        found = self.ask(
            "select r.key, r.columns::text, r.unknown from order_sync.source_row r"
            f" join order_sync.source s on s.id = r.source where s.name = '{source.name}' and not r.deleted"
        )
        types, rows = self._columns(source), {}
        for key, text, unknown in found:
            columns = json.loads(text, parse_float=Decimal)
            row = {name: _comparable(pg_text(columns.get(name), kind), kind) for name, kind in types}
            rows[key] = row | dict.fromkeys(unknown or (), "unknown")
        return rows

    def _columns(self, source: Source) -> list[tuple[str, str]]:
        """Name and type of the table's columns."""
        return self.oms.execute(
            "select attname, format_type(atttypid, atttypmod) from pg_attribute"
            " where attrelid = %s::regclass and attnum > 0 and not attisdropped order by attnum",
            [_table(source)],
        ).fetchall()


def _kafka_is_away(event: dict[str, Any]) -> bool:
    if event["event"] == "kafka trouble":
        return bool(event["kind"] == "unreachable")
    return event.get("logger") == "librdkafka" and "Connect to " in event["text"]


def _comparable(text: str | None, kind: str) -> str | None:
    """One text for one moment: connectors keep zeros at the end of a second's fraction, PostgreSQL does not."""
    return datetime.fromisoformat(text).isoformat() if text is not None and kind.startswith("timestamp") else text


def _table(source: Source) -> str:
    return source.topic.removeprefix(f"{Stack.oms}.")


def _differences(
    truth: dict[str, dict[str, str | None]], mirror: dict[str, dict[str, str | None]]
) -> Iterator[tuple[str, str]]:
    for key in sorted(truth.keys() | mirror.keys()):
        one, other = truth.get(key), mirror.get(key)
        if one is None or other is None:
            yield key, "only in the mirror" if one is None else "only in the OMS"
        elif one != other:
            yield key, ", ".join(name for name in one if one[name] != other.get(name))


@contextmanager
def fleet_rig(directory: Path, libraries: Path, lots: random.Random) -> Iterator[Fleet]:
    """Everything started and migrated, positions watched, three replicas running; logs stay in `directory`."""
    with ExitStack() as parts:
        stack = parts.enter_context(Stack(directory, broker=lambda place: KafkaServer(libraries, place)))
        assert isinstance(stack.broker, KafkaServer)
        # Killed with -9 it must not lose what it acknowledged; that the disk keeps it is not at stake.
        state = parts.enter_context(
            PostgresServer(stack.directory / "state", options={"synchronous_commit": "on", "full_page_writes": "on"})
        )
        state.create_database(Stack.state)
        oms = parts.enter_context(closing(stack.postgres.connect(stack.oms)))
        shop = Shop(oms, settle_secs=3)
        shop.open(orders=50)
        stack.start_connector()
        sandbox = parts.enter_context(SandboxServer())
        api = parts.enter_context(SandboxAdmin(sandbox.url))
        settings = {
            **SCALED,
            "mapping": str(MAPPING),
            "kafka": {
                "bootstrap_servers": stack.broker.bootstrap,
                "group_id": GROUP,
                "topic_refresh_secs": 2,
                "properties": {**CLIENT_PROPERTIES, "reconnect.backoff.max.ms": 1000},
            },
            "postgres": {"dsn": state.dsn(Stack.state)},
            "destinations": {
                "demo": {
                    "base_url": sandbox.url,
                    "client_id": DEFAULT_CLIENT_ID,
                    "api_key_env": KEY_VARIABLE,
                    "live_since": "1970-01-01",
                }
            },
        }
        replicas = {name: Replica(stack.directory / name, settings) for name in (*NAMES, GUEST)}
        migration = Replica(stack.directory / "migration", settings).start("migrate")
        assert migration.wait(TIMEOUT) == 0, migration.failure("migrate failed")
        migration.end()
        with closing(state.connect(Stack.state)) as connection:
            connection.execute("set search_path to order_sync")
            connection.execute(WATCH)
        fleet = Fleet(stack, stack.broker, state, oms, shop, api, lots, replicas)
        parts.callback(fleet.close)
        for name in NAMES:
            fleet.start(name)
        fleet.settle()
        yield fleet
