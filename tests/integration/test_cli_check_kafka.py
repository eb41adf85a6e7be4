"""`check` on what Kafka has: traps in the newest messages and settings, heartbeats, rights."""

from __future__ import annotations

import json
import shlex
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cli_project import Project
from confluent_kafka import Producer
from confluent_kafka.admin import (
    AclBinding,
    AclOperation,
    AclPermissionType,
    ResourcePatternType,
    ResourceType,
)
from fixtures.kafka_server import KafkaNode, KafkaServer

from daemon.cli import peek
from daemon.cli.check_kafka import kafka_findings
from daemon.cli.finding import Level
from daemon.mapping.loader import load_mapping
from daemon.settings import Kafka
from daemon.settings_file import load_settings

Topics = Callable[..., str]
SECRET = "a-secret-value"
PASSWORD_VARIABLE = "ORDER_SYNC_TEST_KAFKA_PASSWORD"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Project:
    """A project over topics of connector `oms`."""
    return Project(tmp_path, monkeypatch, capsys)


@pytest.fixture
def shop(project: Project, broker: Any, topics: Topics) -> Project:
    """Three empty topics on the light broker."""
    project.mapping(orders=topics("orders"), lines=topics("lines"), customers=topics("customers"))
    project.set("kafka", bootstrap_servers=broker.bootstrap)
    return project


def findings(project: Project) -> list[tuple[str, str, str]]:
    """What there is to say of Kafka and is not ok: level, what, cure. The topics' random names are left out."""
    project("connector", "postgres")  # writes the settings file
    settings = load_settings(project.folder / "order-sync.yaml")
    found = kafka_findings(settings, load_mapping(settings.mapping))
    return [(one.level.value, one.what, one.cure) for one in found if one.level is not Level.OK]


def topic_of(project: Project, source: str) -> str:
    """The topic of a source."""
    return load_mapping(project.folder / "mapping.yaml").structure.sources[source].topic


def send(bootstrap: str, topic: str, *messages: tuple[bytes | None, bytes | None], partition: int = 0) -> None:
    """Write keys and values in one batch."""
    producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": 50})
    for key, value in messages:
        producer.produce(topic, value, key, partition=partition)
    assert producer.flush(30) == 0


def envelope(after: dict[str, Any], **source: Any) -> bytes:
    """One insert of connector `oms`."""
    block = {"connector": "postgresql", "name": "oms", "db": "oms", "lsn": 1, "ts_ms": 1, "snapshot": "false"} | source
    return json.dumps({"before": None, "after": after, "source": block, "op": "c"}).encode()


CUSTOMER = {"id": 1, "email": SECRET}


def test_the_newest_messages_are_read_to_the_end(broker: Any, topics: Topics) -> None:
    """The last few of each partition, also of a large batch, where the light broker tells the end wrong."""
    topic = topics("many", partitions=2)
    send(broker.bootstrap, topic, *((None, b"%d" % n) for n in range(3000)))
    send(broker.bootstrap, topic, (None, b"only"), partition=1)
    found = peek.newest(Kafka(bootstrap_servers=broker.bootstrap), {topic: 2})
    values = {number: [m.value for m in found.messages[topic] if m.partition == number] for number in (0, 1)}
    assert values == {0: [b"%d" % n for n in range(3000 - peek.NEWEST, 3000)], 1: [b"only"]}
    assert (found.unread, found.refused) == (set(), set())


def test_what_is_kept_of_large_messages_is_bounded(
    broker: Any, topics: Topics, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not more than the bound over all partitions, but the very last message of each."""
    monkeypatch.setattr(peek, "_KEPT_BYTES", 5000)
    topic = topics("large", partitions=2)
    for number in (0, 1):
        send(broker.bootstrap, topic, *((None, b"x" * 1000) for _ in range(10)), (None, b"y" * 4000), partition=number)
    found = peek.newest(Kafka(bootstrap_servers=broker.bootstrap), {topic: 2}).messages[topic]
    assert [len(message.value or b"") for message in found] == [4000, 4000]


def test_a_missing_topic_fails_only_where_it_is_required(shop: Project) -> None:
    """A warning by default; `required: true` makes it a failure."""
    text = (shop.folder / "mapping.yaml").read_text()
    gone = text.replace(topic_of(shop, "customers"), "oms.public.gone")
    (shop.folder / "mapping.yaml").write_text(gone)
    [(level, what, _)] = findings(shop)
    assert level == "warn"
    assert what.startswith("topic oms.public.gone (customers) does not exist")
    (shop.folder / "mapping.yaml").write_text(
        gone.replace("topic: oms.public.gone", "topic: oms.public.gone\n    required: true")
    )
    [(level, _, _)] = findings(shop)
    assert level == "FAIL"


def test_traps_are_lines_with_cures_and_without_values(shop: Project, broker: Any) -> None:
    """Unreadable messages fail, doubtful ones warn, each names its topic; no value is shown."""
    send(broker.bootstrap, topic_of(shop, "orders"), (b'{"id": 1}', b"\x00\x00" + SECRET.encode()))
    send(broker.bootstrap, topic_of(shop, "customers"), (None, envelope(CUSTOMER)))
    found = findings(shop)
    said = {
        (level, what.split(" (")[1].split(")")[0])
        for level, what, _ in found
        if what.startswith("topic ") and " (" in what
    }
    assert said >= {("FAIL", "orders"), ("warn", "customers")}
    assert all(cure for _, _, cure in found)
    assert SECRET not in str(found)


def test_a_schema_registry_that_does_not_answer(shop: Project, broker: Any) -> None:
    """Messages that need it cannot be judged: a failure that names the setting, and no reject."""
    shop.set("kafka", schema_registry_url="http://127.0.0.1:1")
    send(broker.bootstrap, topic_of(shop, "orders"), (b'{"id": 1}', b"\x00\x00\x00\x00\x01" + SECRET.encode()))
    [(level, what, cure)] = findings(shop)
    assert level == "FAIL"
    assert "kafka.schema_registry_url" in what
    assert cure


def test_columns_that_the_newest_messages_lack(shop: Project, broker: Any) -> None:
    """Named before anything is folded, with the near miss."""
    send(broker.bootstrap, topic_of(shop, "customers"), (b'{"id": 1}', envelope({"id": 1, "e_mail": SECRET})))
    lacking = [(level, what, cure) for level, what, cure in findings(shop) if "customers.email" in what]
    assert [(level, cure) for level, _, cure in lacking] == [("warn", "did you mean e_mail?")]


def test_what_all_messages_lack_is_said_once(shop: Project, broker: Any, database: Any) -> None:
    """The state has never seen the column either: that is the failure, and the newest messages say nothing new."""
    send(broker.bootstrap, topic_of(shop, "customers"), (b'{"id": 1}', envelope({"id": 1, "e_mail": SECRET})))
    shop.set("postgres", dsn=database.settings.dsn)
    with database.connect() as connection:
        connection.execute("set search_path to order_sync")
        connection.execute("insert into source (name) values ('customers')")
        connection.execute("insert into source_column (source, name, type) select id, 'id', 'int' from source")
        connection.execute("insert into source_column (source, name, type) select id, 'e_mail', 'text' from source")
    lines = [line for line in shop("check").out.splitlines() if "customers.email:" in line]
    assert [line[:4] for line in lines] == ["FAIL"]


def test_heartbeats_of_the_connectors_that_wrote(shop: Project, broker: Any) -> None:
    """None is a warning, one that came just now is fine; a connector that wrote nothing is not asked for."""
    prefix = f"oms-{uuid.uuid4().hex[:8]}"
    assert findings(shop) == []
    send(broker.bootstrap, topic_of(shop, "customers"), (b'{"id": 1}', envelope(CUSTOMER, name=prefix)))
    [(level, what, cure)] = findings(shop)
    assert (level, cure) == ("warn", "set heartbeat.interval.ms=10000 at the connector")
    assert what.startswith(f"topic __debezium-heartbeat.{prefix}: connector {prefix} sends no heartbeats")
    broker.create_topic(f"__debezium-heartbeat.{prefix}", 1)
    send(broker.bootstrap, f"__debezium-heartbeat.{prefix}", (b"{}", b'{"ts_ms": 1}'))
    assert findings(shop) == []


@pytest.mark.apache_kafka
def test_settings_are_judged_as_the_broker_tells_them(
    project: Project, kafka: KafkaNode, kafka_topics: Callable[..., str]
) -> None:
    """Short retention, and deletes that a compacted topic forgets within a day, which is Kafka's default."""
    week = {"retention.ms": str(8 * 86_400_000)}
    project.mapping(
        orders=kafka_topics("orders", config=week),
        lines=kafka_topics("lines", config={"retention.ms": "3600000"}),
        customers=kafka_topics("customers", config={"cleanup.policy": "compact"}),
    )
    project.set("kafka", bootstrap_servers=kafka.bootstrap)
    send(kafka.bootstrap, topic_of(project, "orders"), *((b'{"id": 1}', None) for _ in range(5)))
    short, forgotten = findings(project)
    assert (short[0], forgotten[0]) == ("warn", "warn")
    assert "(lines): messages are kept for 1 h" in short[1]
    assert "(customers): deletes are kept for 1 d" in forgotten[1]
    assert "delete.retention.ms=" in forgotten[2]


class Guest:
    """A user of the secure listener, and the ACL commands that are run for it."""

    def __init__(self, server: KafkaServer, name: str) -> None:
        self.server, self.name = server, name

    def run(self, command: str) -> None:
        """Do what a printed `kafka-acls.sh --add` would."""
        words = shlex.split(command)
        told = [(words[at], words[at + 1]) for at in range(len(words) - 1)]
        assert ("--allow-principal", f"User:{self.name}") in told
        operations = [AclOperation[_screaming(word)] for option, word in told if option == "--operation"]
        places = [(ResourceType.TOPIC, word) for option, word in told if option == "--topic"]
        places += [(ResourceType.GROUP, word) for option, word in told if option == "--group"]
        literal, allow = ResourcePatternType.LITERAL, AclPermissionType.ALLOW
        bindings = [
            AclBinding(kind, name, literal, f"User:{self.name}", "*", operation, allow)
            for kind, name in places
            for operation in operations
        ]
        for future in self.server.admin.create_acls(bindings).values():
            future.result(30)


def _screaming(operation: str) -> str:
    return {"Read": "READ", "Describe": "DESCRIBE", "DescribeConfigs": "DESCRIBE_CONFIGS"}[operation]


@pytest.fixture
def guest(project: Project, secure_kafka: KafkaServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Guest]:
    """A user who may do nothing yet, and three topics with one readable customer."""
    user = f"user-{uuid.uuid4().hex[:8]}"
    secure_kafka.set_user(user, "a password")
    monkeypatch.setenv(PASSWORD_VARIABLE, "a password")
    names = {name: f"oms.public.{name}-{uuid.uuid4().hex[:8]}" for name in ("orders", "lines", "customers")}
    keep = {"retention.ms": "-1"}
    for name in names.values():
        secure_kafka.create_topic(name, 1, keep)
    project.mapping(**names)
    project.set(
        "kafka",
        bootstrap_servers=secure_kafka.secure_bootstrap,
        group_id=f"group-{user}",
        properties=secure_kafka.client_properties(user),
        secret_properties={"sasl.password": PASSWORD_VARIABLE},
    )
    yield Guest(secure_kafka, user)
    for name in names.values():
        secure_kafka.delete_topic(name)


@pytest.mark.apache_kafka
def test_the_printed_acls_are_enough_and_their_absence_is_named(project: Project, guest: Guest) -> None:
    """Without rights each topic and the group is a failure, whose cure is the command that grants them."""
    refused = findings(project)
    assert [level for level, _, _ in refused] == ["FAIL"] * 4
    assert refused[0][1].startswith("consumer group group-")
    assert all("this user may not" in what for _, what, _ in refused)
    for _, _, cure in refused:
        guest.run(cure)
    assert findings(project) == []


@pytest.mark.apache_kafka
def test_connector_prints_the_same_rights(project: Project, guest: Guest) -> None:
    """The commands of `connector` alone leave `check` with nothing to say."""
    [acls] = [part for part in project("connector", "postgres", "--json").json()["parts"] if part["name"] == "acls"]
    for command in acls["items"]:
        guest.run(command)
    assert findings(project) == []


@pytest.mark.apache_kafka
def test_settings_that_may_not_be_read(project: Project, guest: Guest) -> None:
    """Reading works without DescribeConfigs, but nobody would notice a topic read too late: a warning with its ACL."""
    for _, _, cure in findings(project):
        guest.run(cure.replace("--operation DescribeConfigs ", ""))
    doubtful = findings(project)
    assert [level for level, _, _ in doubtful] == ["warn"] * 3
    for _, _, cure in doubtful:
        assert "--operation DescribeConfigs" in cure
        guest.run(cure)
    assert findings(project) == []


def test_it_takes_a_few_seconds_at_most(shop: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """A partition whose end does not come is given up at the deadline and named."""
    monkeypatch.setattr(peek, "READ_SECS", 0.0)
    began = time.monotonic()
    found = findings(shop)
    assert time.monotonic() - began < 10
    assert len(found) == 3
    assert all("its end was not reached within 0 s" in what for _, what, _ in found)
