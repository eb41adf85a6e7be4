"""Schemas by id over HTTP: what is an answer, what is none, and what a registry that is away does not do."""

from __future__ import annotations

import base64
import io
import json
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import fastavro
import psycopg
import pytest
from confluent_kafka import Producer
from confluent_kafka.schema_registry import Schema, SchemaRegistryClient
from fixtures.maven import UnavailableError
from fixtures.postgres import Database
from ingest_rig import QUIET, TIMEOUT, Line, accounted, rows
from recorder.registry import Registry

from daemon.errors import BrokerUnavailable, SettingsError
from daemon.ingest.avro import RegisteredSchema
from daemon.ingest.schema_registry import SchemaRegistry, avro_reader
from daemon.settings import Kafka

VARIABLE = "ORDER_SYNC_TEST_REGISTRY"


class StandIn(ThreadingHTTPServer):
    """A registry that answers as it is told: schemas by id, a user it asks for, a status for everything."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.schemas: dict[int, dict[str, Any]] = {}
        self.user: str | None = None
        self.status: tuple[int, int] | None = None

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    """Confluent's API, as far as schemas by id go."""

    server: StandIn

    def do_GET(self) -> None:
        """`/schemas/ids/N`."""
        wanted = self.server.user and "Basic " + base64.b64encode(self.server.user.encode()).decode()
        found = self.server.schemas.get(int(self.path.rpartition("/")[2].partition("?")[0]))
        if self.server.status is not None:
            self._answer(self.server.status[0], {"error_code": self.server.status[1], "message": "as told"})
        elif wanted and self.headers.get("Authorization") != wanted:
            self._answer(401, {"error_code": 40101, "message": "who are you"})
        elif found is None:
            self._answer(404, {"error_code": 40403, "message": "Schema not found"})
        else:
            self._answer(200, found)

    def _answer(self, status: int, body: dict[str, Any]) -> None:
        raw = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name for it
        """Quiet."""


@pytest.fixture
def registry() -> Iterator[StandIn]:
    """A stand-in that is served until the test ends."""
    with StandIn() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_a_schema_is_given_with_its_kind(registry: StandIn) -> None:
    """A kind that is not told is Avro; references to other subjects are noticed."""
    reference = {"name": "a.B", "subject": "b", "version": 1}
    registry.schemas = {
        1: {"schema": '"long"'},
        2: {"schema": "syntax", "schemaType": "PROTOBUF"},
        3: {"schema": '"a.B"', "references": [reference]},
    }
    subject = SchemaRegistry(Kafka(schema_registry_url=registry.url))
    assert subject.schema(1) == RegisteredSchema("AVRO", '"long"')
    assert subject.schema(2) == RegisteredSchema("PROTOBUF", "syntax")
    assert subject.schema(3) == RegisteredSchema("AVRO", '"a.B"', references=True)


def test_only_the_registrys_own_word_says_that_there_is_no_schema(registry: StandIn) -> None:
    """Its error code for it; a bare 404 comes from a wrong path or a proxy, and every other status is no answer."""
    subject = SchemaRegistry(Kafka(schema_registry_url=registry.url))
    assert subject.schema(1) is None
    for status in ((404, 404), (400, 40001), (401, 40101), (403, 40301), (429, 42901), (500, 50001), (503, -1)):
        registry.status = status
        with pytest.raises(BrokerUnavailable, match=f"schema 1.*HTTP {status[0]}: as told"):
            subject.schema(1)
    registry.status = None
    registry.schemas[1] = {"schema": '"long"'}
    assert subject.schema(1) == RegisteredSchema("AVRO", '"long"')


def test_a_registry_that_is_away_answers_once_it_is_back(registry: StandIn) -> None:
    """Nobody listening is no answer either, and costs no long wait."""
    subject = SchemaRegistry(Kafka(schema_registry_url="http://127.0.0.1:9"))
    with pytest.raises(BrokerUnavailable, match="the Schema Registry"):
        subject.schema(1)
    registry.schemas[1] = {"schema": '"long"'}
    several = SchemaRegistry(Kafka(schema_registry_url=f"http://127.0.0.1:9,{registry.url}"))
    assert several.schema(1) == RegisteredSchema("AVRO", '"long"')


def test_the_secret_is_read_anew(registry: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A rotated password needs no restart; the file holds it, the settings only name the variable."""
    secret = tmp_path / "secret"
    secret.write_text("me:old")
    monkeypatch.setenv(f"{VARIABLE}_FILE", str(secret))
    registry.schemas[1], registry.user = {"schema": '"long"'}, "me:new"
    names = {"basic.auth.user.info": VARIABLE}
    subject = SchemaRegistry(Kafka(schema_registry_url=registry.url, schema_registry_secret_properties=names))
    with pytest.raises(BrokerUnavailable, match="HTTP 401: who are you") as refused:
        subject.schema(1)
    assert "old" not in str(refused.value)
    secret.write_text("me:new")
    assert subject.schema(1) == RegisteredSchema("AVRO", '"long"')


def test_settings_that_cannot_be_used_are_told_at_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """A property that Confluent's client does not know, and the extra that is not installed."""
    assert avro_reader(Kafka()) is None
    with pytest.raises(SettingsError, match=r"kafka\.schema_registry_properties: .*ssl\.ca\.locatoin"):
        avro_reader(Kafka(schema_registry_url="http://r", schema_registry_properties={"ssl.ca.locatoin": "x"}))
    monkeypatch.setitem(sys.modules, "confluent_kafka.schema_registry", None)
    with pytest.raises(SettingsError, match=r"northbeam-order-sync\[avro\]"):
        avro_reader(Kafka(schema_registry_url="http://r"))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"schema_registry_url": "registry:8081"}, "must be http"),
        ({"schema_registry_url": "http://me:pw@registry:8081"}, "without user and password"),
        ({"schema_registry_properties": {"basic.auth.user.info": "me:pw"}}, "is a secret"),
        ({"schema_registry_properties": {"url": "http://r"}}, "url is schema_registry_url"),
    ],
)
def test_secrets_do_not_stand_in_the_settings(settings: dict[str, Any], words: str) -> None:
    """As with librdkafka's properties."""
    with pytest.raises(ValueError, match=words) as caught:
        Kafka.model_validate(settings)
    assert "me:pw" not in str(caught.value)


def avro_row(number: int, lsn: int) -> tuple[dict[str, Any], bytes]:
    """The Avro schema of a flattened row, and one such row under schema `number`."""
    kinds = {"id": "long", "__op": "string", "__lsn": "long", "__source_ts_ms": "long"}
    fields = [{"name": name, "type": kind} for name, kind in kinds.items()]
    schema = {"type": "record", "name": "Value", "fields": fields}
    stream = io.BytesIO()
    row = {"id": lsn, "__op": "c", "__lsn": lsn, "__source_ts_ms": 1_767_355_200_000 + lsn}
    fastavro.schemaless_writer(stream, fastavro.parse_schema(schema), row)
    return schema, b"\x00" + number.to_bytes(4, "big") + stream.getvalue()


@pytest.mark.kafka
@pytest.mark.postgres
def test_ingest_waits_for_a_registry_that_is_away(
    registry: StandIn,
    broker: Any,
    topics: Callable[..., str],
    database: Database,
    state: psycopg.Connection,
    eventually: Callable[..., None],
) -> None:
    """While the registry does not answer, nothing is rejected and no position moves; once it answers, all is folded.
    A schema that it then says it does not have makes a reject, and the messages behind it go on."""
    line = Line(broker.bootstrap, database, {name: topics(name, partitions=1) for name in ("orders", "customers")})
    topic = line.names["orders"]
    schema, first = avro_row(1, 1)
    values = (first, avro_row(2, 2)[1], avro_row(1, 3)[1])
    producer = Producer({"bootstrap.servers": broker.bootstrap}, logger=QUIET)
    for number, value in enumerate(values, 1):
        producer.produce(topic, value, b'{"id":%d}' % number, partition=0)
    assert producer.flush(TIMEOUT) == 0
    registry.schemas[1], registry.status = {"schema": json.dumps(schema)}, (503, -1)
    with line.running(kafka={"schema_registry_url": registry.url}) as running:
        eventually(lambda: running.gauge("fold_retries_total") >= 2, timeout=TIMEOUT, what="ingest to try again")
        assert not running.ready()
        assert accounted(state) == 0
        registry.status = None
        eventually(lambda: accounted(state) == len(values), timeout=TIMEOUT, what="all messages to be accounted for")
        eventually(running.ready, timeout=TIMEOUT, what="the loop to be ready again")
    assert rows(state, "orders") == {"1", "2", "3"}
    assert state.execute('select reason, "offset" from rejected_message').fetchall() == [("not_avro", 1)]
    assert state.execute("select key from source_row where unknown = '{*}'").fetchall() == [("2",)]


def test_a_real_registry_is_understood() -> None:
    """Apicurio Registry over Confluent's API: a schema that it has, one that it has not."""
    try:
        server = Registry()
    except UnavailableError as missing:
        pytest.skip(f"needs a schema registry: {missing}")
    with server:
        with SchemaRegistryClient({"url": server.url}) as writer:
            number = writer.register_schema("t-value", Schema('"long"', "AVRO"))
        subject = SchemaRegistry(Kafka(schema_registry_url=server.url))
        assert subject.schema(number) == RegisteredSchema("AVRO", '"long"')
        assert subject.schema(number + 100) is None
