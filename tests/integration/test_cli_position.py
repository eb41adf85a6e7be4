"""`position show` and `position reset`: what they tell, what they refuse, and exactly what a reset changes."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest
from cli_project import Project
from confluent_kafka import Producer

from daemon.ingest.cluster import Cluster
from daemon.settings import Kafka

pytestmark = [pytest.mark.postgres, pytest.mark.kafka]

FOUND = "select o.partition, p.next_offset, p.halted, p.target from kafka_position p join origin o on o.id = p.origin"


@pytest.fixture
def project(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], database: Any
) -> Project:
    """A project on a migrated database, worked on by alice; there is no Kafka."""
    monkeypatch.setenv("LOGNAME", "alice")
    made = Project(tmp_path, monkeypatch, capsys)
    made.set("postgres", dsn=database.settings.dsn)
    return made


@pytest.fixture
def sql(database: Any) -> Iterator[psycopg.Connection]:
    """A connection in our schema."""
    with closing(database.connect()) as connection:
        connection.execute("set search_path to order_sync")
        yield connection


@pytest.fixture
def topic(project: Project, broker: Any, topics: Callable[..., str]) -> str:
    """The orders' topic on the light broker: two partitions, ten messages one by one in the first."""
    name = topics("orders", partitions=2)
    project.set("kafka", bootstrap_servers=broker.bootstrap)
    project.mapping(orders=name)
    producer = Producer({"bootstrap.servers": broker.bootstrap, "batch.num.messages": 1})
    for _ in range(10):
        producer.produce(name, b"{}", b"{}", partition=0)
    assert producer.flush(20) == 0
    return name


@pytest.fixture
def stand(sql: psycopg.Connection, broker: Any, topic: str) -> Callable[..., None]:
    """Put the orders' partitions where they shall stand; the second, at 0, is halted and holds delivery."""
    topic_id = Cluster(Kafka(bootstrap_servers=broker.bootstrap), [topic]).look().topics[topic].topic_id

    def at(offset: int, topic_id: str = topic_id) -> None:
        sql.execute(
            "insert into origin (topic, topic_id, partition) values (%s, %s, 0), (%s, %s, 1)",
            [topic, topic_id, topic, topic_id],
        )
        sql.execute(
            "insert into kafka_position (origin, next_offset, folded, skipped, halted, halted_at, target, read_at)"
            " select id, case partition when 0 then %s else 0 end, 5, 1,"
            " case partition when 1 then 'why' end, case partition when 1 then now() end,"
            " case partition when 1 then 7 end, now() - interval '3 days' from origin",
            [offset],
        )

    return at


def found(sql: psycopg.Connection) -> list[tuple[Any, ...]]:
    """Partition, position, halt and target of every incarnation."""
    return sql.execute(FOUND + " order by p.origin").fetchall()


def actions(sql: psycopg.Connection) -> list[tuple[Any, ...]]:
    """What operators did."""
    return sql.execute("select who, command, arguments, affected from operator_action order by id").fetchall()


def test_show_works_without_kafka(project: Project, sql: psycopg.Connection) -> None:
    """Position, counts and halt are the state's; what only Kafka knows is said to be unknown."""
    sql.execute("insert into origin (topic, topic_id, partition) values ('shop.orders', 'x', 0)")
    sql.execute(
        "insert into kafka_position (origin, next_offset, folded, stale, skipped, rejected, halted)"
        " values (1, 40, 30, 4, 3, 2, 'deleted before they were read')"
    )
    shown = project("position", "show", "--json").json()
    assert shown["kafka"].startswith("not reachable: Kafka 127.0.0.1:1: ")
    [at] = shown["positions"]
    assert [at[name] for name in ("next_offset", "folded", "stale", "skipped", "rejected")] == [40, 30, 4, 3, 2]
    assert (at["halted"], at["topic_id"], at["lag_messages"]) == ("deleted before they were read", "x", None)
    text = project("position", "show").out
    assert "deleted before they were read" in text
    assert "Kafka is not reachable" in text


def test_show_tells_start_end_lag_and_gate(project: Project, stand: Callable[..., None]) -> None:
    """Of the topic as it is now; a halted partition holds nothing up."""
    stand(4)
    first, second = project("position", "show", "--json").json()["positions"]
    assert [first[name] for name in ("start_offset", "end_offset", "lag_messages")] == [0, 10, 6]
    assert (second["lag_messages"], second["halted"], second["gate_target"]) == (0, "why", None)


@pytest.mark.parametrize(
    ("to", "position", "says"),
    [
        ("earliest", -1, "reads offsets 0 to 3 again: orders that it does not change are not sent again"),
        ("latest", 10, "skips offsets 4 to 9: changes in there never reach the mirror"),
        ("here", 4, "reads on where it stands"),
        ("7", 7, "skips offsets 4 to 6"),
        ("2", 2, "reads offsets 2 to 3 again"),
    ],
)
def test_reset_says_what_it_does_and_does_it(
    project: Project, sql: psycopg.Connection, stand: Callable[..., None], topic: str, to: str, position: int, says: str
) -> None:
    """One partition moves, its halt and age are gone, the action is recorded; the other stays as it was."""
    stand(4)
    sql.execute("update kafka_position set halted = 'why', target = 3 where origin = 1")
    ran = project("position", "reset", topic, "--to", to, "--partition", "0", "--yes")
    assert (ran.code, ran.err) == (0, "")
    assert says in ran.out
    assert found(sql) == [(0, position, None, 3 if position < 3 else None), (1, 0, "why", 7)]
    [(fresh,)] = sql.execute("select now() - read_at < interval '1 minute' from kafka_position where origin = 1")
    assert fresh
    offset = None if to == "here" else position
    assert actions(sql) == [("alice", "position reset", {"topic": topic, "to": to, "offsets": {"0": offset}}, 1)]


@pytest.mark.parametrize(("stands", "becomes"), [(50, 10), (10, 10), (-1, -1)])
def test_here_is_the_nearest_offset_that_kafka_has(
    project: Project, sql: psycopg.Connection, stand: Callable[..., None], topic: str, stands: int, becomes: int
) -> None:
    """A position behind the log's end comes back to it; one within, or at its beginning, stays."""
    stand(stands)
    assert project("position", "reset", topic, "--to", "here", "--yes").code == 0
    assert [row[:3] for row in found(sql)] == [(0, becomes, None), (1, 0, None)]


def test_reset_of_a_recreated_topic_goes_on_in_the_new_one(
    project: Project, sql: psycopg.Connection, stand: Callable[..., None], topic: str
) -> None:
    """The incarnation before holds nothing up any more; there is no place to stay in the new one."""
    stand(4, "another id")
    ran = project("position", "reset", topic, "--to", "here", "--yes")
    assert ran.code == 2
    assert "was deleted and made anew since it was read" in ran.err
    assert project("position", "reset", topic, "--to", "earliest", "--yes").code == 0
    assert found(sql) == [(0, 4, None, None), (1, 0, None, None), (0, -1, None, None), (1, -1, None, None)]
    assert [at["next_offset"] for at in project("position", "show", "--json").json()["positions"]] == [-1, -1]


def test_a_topic_known_without_an_id_is_the_same_one(
    project: Project, sql: psycopg.Connection, stand: Callable[..., None], topic: str
) -> None:
    """The broker tells topic ids since it was upgraded: the position moves, none is added."""
    stand(4, "")
    assert project("position", "reset", topic, "--to", "6", "--partition", "0", "--yes").code == 0
    assert [row[:2] for row in found(sql)] == [(0, 6), (1, 0)]


@pytest.mark.parametrize(("answer", "moves"), [("n\n", False), ("", False), ("y\n", True)])
def test_reset_asks_first(
    project: Project,
    sql: psycopg.Connection,
    stand: Callable[..., None],
    topic: str,
    monkeypatch: pytest.MonkeyPatch,
    answer: str,
    moves: bool,
) -> None:
    """Whoever does not say yes, or cannot be asked, changes nothing."""
    stand(4)
    monkeypatch.setattr(sys, "stdin", io.StringIO(answer))
    ran = project("position", "reset", topic, "--to", "latest", "--partition", "0")
    assert "skips offsets 4 to 9" in ran.out
    assert (ran.code, found(sql)[0][1]) == ((0, 10) if moves else (1, 4))
    assert len(actions(sql)) == moves


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--to", "newest"], "--to newest: must be earliest, latest, here or an offset"),
        (["--to", "11"], "partition 0 has offsets 0 to 10; say one of these"),
        (["--to", "earliest", "--partition", "9"], "has no partition 9; it has 2"),
    ],
)
def test_what_reset_refuses(
    project: Project, sql: psycopg.Connection, stand: Callable[..., None], topic: str, arguments: list[str], text: str
) -> None:
    """Exit code 2, one line with the cure, nothing changed."""
    stand(4)
    ran = project("position", "reset", topic, *arguments, "--yes")
    assert ran.code == 2
    assert text in ran.err
    assert actions(sql) == []


def test_a_topic_that_is_not_there_or_not_ours_is_refused(
    project: Project, topic: str, sql: psycopg.Connection
) -> None:
    """Said apart: one that no source reads, one that Kafka does not have, and a Kafka that is away."""
    ran = project("position", "reset", "typo", "--to", "earliest", "--yes")
    assert (ran.code, f"topic typo: no source of the mapping reads it; it reads {topic}, " in ran.err) == (2, True)
    ran = project("position", "reset", "shop.lines", "--to", "earliest", "--yes")
    assert (ran.code, "topic shop.lines: Kafka has no such topic; " in ran.err) == (2, True)
    project.set("kafka", bootstrap_servers="127.0.0.1:1")
    ran = project("position", "reset", topic, "--to", "earliest", "--yes")
    assert (ran.code, "; start the brokers, or mend kafka.bootstrap_servers" in ran.err) == (1, True)
