"""TLS, SASL and ACLs against a real listener: what is missing is a state with its cure, and over once it is mended."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from confluent_kafka.admin import (
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    ResourcePatternType,
    ResourceType,
)
from fixtures.kafka_server import KafkaServer
from fixtures.postgres import Database
from ingest_rig import TIMEOUT, Line, complete, rows

pytestmark = [pytest.mark.apache_kafka, pytest.mark.postgres]

PASSWORD = "a correct password"
VARIABLE = "ORDER_SYNC_TEST_KAFKA_PASSWORD"


class Access:
    """What one user of the secure listener may do."""

    def __init__(self, server: KafkaServer, user: str) -> None:
        self.server, self.user = server, user

    def grant(self, kind: ResourceType, name: str, *operations: AclOperation) -> None:
        bindings = [self._binding(kind, name, operation) for operation in operations]
        for future in self.server.admin.create_acls(bindings).values():
            future.result(TIMEOUT)

    def revoke(self, kind: ResourceType, name: str) -> None:
        filters = [
            AclBindingFilter(
                kind, name, ResourcePatternType.LITERAL, f"User:{self.user}", None, AclOperation.ANY,
                AclPermissionType.ANY,
            )
        ]  # fmt: skip
        for future in self.server.admin.delete_acls(filters).values():
            future.result(TIMEOUT)

    def grant_topic(self, name: str) -> None:
        """All that the daemon asks for."""
        self.grant(ResourceType.TOPIC, name, AclOperation.READ, AclOperation.DESCRIBE, AclOperation.DESCRIBE_CONFIGS)

    def grant_group(self, name: str) -> None:
        self.grant(ResourceType.GROUP, name, AclOperation.READ)

    def _binding(self, kind: ResourceType, name: str, operation: AclOperation) -> AclBinding:
        return AclBinding(
            kind, name, ResourcePatternType.LITERAL, f"User:{self.user}", "*", operation, AclPermissionType.ALLOW
        )


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Brokers that do not answer are given up sooner than in production."""
    monkeypatch.setattr("daemon.ingest.cluster.ANSWER_SECS", 2.0)


@pytest.fixture
def access(secure_kafka: KafkaServer) -> Access:
    """A user of its own, who may do nothing yet."""
    user = f"user-{uuid.uuid4().hex[:8]}"
    secure_kafka.set_user(user, PASSWORD)
    return Access(secure_kafka, user)


@pytest.fixture
def line(access: Access, database: Database, monkeypatch: pytest.MonkeyPatch) -> Iterator[Line]:
    """Topics on the secure listener, with something in both; the secret is right."""
    server = access.server
    names = {name: f"{name}-{uuid.uuid4().hex[:8]}" for name in ("orders", "customers")}
    for name in names.values():
        server.create_topic(name, 2)
    monkeypatch.setenv(VARIABLE, PASSWORD)
    line = Line(
        server.bootstrap,
        database,
        names,
        properties=server.client_properties(access.user),
        secret_properties={"sasl.password": VARIABLE},
        consumer_bootstrap=server.secure_bootstrap,
    )
    line.send("orders", 5)
    line.send("customers", 5)
    yield line
    for name in names.values():
        server.delete_topic(name)


def group_of(line: Line) -> str:
    return line.settings({}, {}).kafka.group_id


def test_with_tls_scram_and_the_least_acls_everything_is_folded(
    access: Access, line: Line, state: psycopg.Connection, eventually: Callable[..., None]
) -> None:
    """Read, Describe and DescribeConfigs on the topics and Read on the group are enough."""
    access.grant_group(group_of(line))
    for name in line.names.values():
        access.grant_topic(name)
    with line.running() as running:
        eventually(lambda: complete(state, line), timeout=TIMEOUT, what="everything")
        eventually(running.ready, timeout=TIMEOUT, what="readiness")
        assert running.gauge("kafka_trouble") == 0


def test_a_wrong_password_is_said_and_once_it_is_right_ingest_begins(
    access: Access,
    line: Line,
    state: psycopg.Connection,
    monkeypatch: pytest.MonkeyPatch,
    eventually: Callable[..., None],
) -> None:
    """Not ready with the broker's words and what to mend; the broker learns the password, and it goes on by itself."""
    access.grant_group(group_of(line))
    for name in line.names.values():
        access.grant_topic(name)
    monkeypatch.setenv(VARIABLE, "another password")
    with line.running() as running:
        eventually(lambda: running.gauge("kafka_trouble", kind="identity") == 1, timeout=TIMEOUT, what="trouble")
        eventually(lambda: "uthentication" in running.reason(), timeout=TIMEOUT, what="the reason")
        assert "mend kafka.properties" in running.reason()
        assert "another password" not in running.reason()
        access.server.set_user(access.user, "another password")
        eventually(lambda: complete(state, line), timeout=TIMEOUT, what="everything")
        eventually(running.ready, timeout=TIMEOUT, what="readiness")
        assert running.gauge("kafka_trouble") == 0


def test_a_secret_that_is_mended_is_read_anew_without_a_restart(
    access: Access,
    line: Line,
    state: psycopg.Connection,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    eventually: Callable[..., None],
) -> None:
    """The password lies in a file, as in a cluster whose secrets are rotated: the next attempt takes the new one."""
    access.grant_group(group_of(line))
    for name in line.names.values():
        access.grant_topic(name)
    secret = tmp_path / "password"
    secret.write_text("the one before")
    monkeypatch.delenv(VARIABLE)
    monkeypatch.setenv(f"{VARIABLE}_FILE", str(secret))
    with line.running() as running:
        eventually(lambda: running.gauge("kafka_trouble", kind="identity") == 1, timeout=TIMEOUT, what="trouble")
        secret.write_text(PASSWORD)
        eventually(lambda: complete(state, line), timeout=TIMEOUT, what="everything")
        eventually(running.ready, timeout=TIMEOUT, what="readiness")


def test_a_broker_whose_certificate_is_not_trusted_is_never_talked_to(
    access: Access, line: Line, state: psycopg.Connection, eventually: Callable[..., None]
) -> None:
    """The system's authorities do not know it: not ready, saying that it is about certificates, and nothing is read."""
    properties = {**line.settings({}, {}).kafka.properties}
    del properties["ssl.ca.location"]
    with line.running(kafka={"properties": properties}) as running:
        eventually(lambda: running.gauge("kafka_trouble", kind="identity") == 1, timeout=TIMEOUT, what="trouble")
        eventually(lambda: "certificate" in running.reason(), timeout=TIMEOUT, what="the reason")
    assert rows(state, "customers") == set()


@pytest.mark.parametrize(
    ("granted", "kind"), [((), "describe"), ((AclOperation.DESCRIBE, AclOperation.DESCRIBE_CONFIGS), "read")]
)
def test_a_missing_topic_acl_holds_up_that_topic_alone_until_it_is_granted(
    granted: tuple[AclOperation, ...],
    kind: str,
    access: Access,
    line: Line,
    state: psycopg.Connection,
    eventually: Callable[..., None],
) -> None:
    """The topic and the right that is missing are named; the other topic goes on; the grant is noticed."""
    access.grant_group(group_of(line))
    access.grant_topic(line.names["customers"])
    if granted:
        access.grant(ResourceType.TOPIC, line.names["orders"], *granted)
    with line.running() as running:
        eventually(lambda: rows(state, "customers") == line.sent["customers"], timeout=TIMEOUT, what="the customers")
        eventually(lambda: running.gauge("kafka_trouble", kind=kind) == 1, timeout=TIMEOUT, what="trouble")
        eventually(lambda: line.names["orders"] in running.reason(), timeout=TIMEOUT, what="the reason")
        assert "grant" in running.reason()
        access.grant_topic(line.names["orders"])
        eventually(lambda: complete(state, line), timeout=TIMEOUT, what="the orders")
        eventually(running.ready, timeout=TIMEOUT, what="readiness")
        assert running.gauge("kafka_trouble") == 0


def test_a_missing_group_acl_is_said_until_it_is_granted(
    access: Access, line: Line, state: psycopg.Connection, eventually: Callable[..., None]
) -> None:
    """Without the group there are no partitions: not ready, with the cure, and on by itself after the grant."""
    for name in line.names.values():
        access.grant_topic(name)
    with line.running() as running:
        eventually(lambda: running.gauge("kafka_trouble", kind="group") == 1, timeout=TIMEOUT, what="trouble")
        eventually(lambda: "group" in running.reason(), timeout=TIMEOUT, what="the reason")
        access.grant_group(group_of(line))
        eventually(lambda: complete(state, line), timeout=TIMEOUT, what="everything")
        eventually(running.ready, timeout=TIMEOUT, what="readiness")


def test_rights_taken_away_while_running_and_given_back(
    access: Access, line: Line, state: psycopg.Connection, eventually: Callable[..., None]
) -> None:
    """The topic stands still where it was and goes on from there."""
    access.grant_group(group_of(line))
    for name in line.names.values():
        access.grant_topic(name)
    with line.running() as running:
        eventually(lambda: complete(state, line), timeout=TIMEOUT, what="everything")
        access.revoke(ResourceType.TOPIC, line.names["orders"])
        eventually(lambda: line.names["orders"] in running.reason(), timeout=TIMEOUT, what="the reason")
        line.send("orders", 5)
        customers = line.send("customers", 5)
        eventually(lambda: customers <= rows(state, "customers"), timeout=TIMEOUT, what="the customers")
        access.grant_topic(line.names["orders"])
        eventually(lambda: complete(state, line), timeout=TIMEOUT, what="the orders")
        eventually(running.ready, timeout=TIMEOUT, what="readiness")
