"""A schema registry of our own: Apicurio Registry in memory, on a free loopback port, spoken to in Confluent's way."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import httpx
from fixtures.maven import jars, java

from daemon.demo.process import Child, Part, RigError, free_port, wait_until

POM = Path(__file__).with_name("registry_pom.xml")
JVM = ("-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Dquarkus.http.host=127.0.0.1")
TIMEOUT_SECS = 30.0


class Registry(Part):
    """One registry at `url`. It keeps nothing."""

    def __init__(self, directory: Path | None = None) -> None:
        """Raises UnavailableError (fixtures.maven) where it cannot be fetched or there is no Java."""
        super().__init__(directory)
        self._archive = next(jars(POM).glob("*.tar.gz"))
        self._java = java()
        self._port = 0
        self._child: Child | None = None

    @property
    def url(self) -> str:
        """What clients of Confluent's API name as schema.registry.url."""
        return f"http://127.0.0.1:{self._port}/apis/ccompat/v7"

    def start(self) -> None:
        """Unpack it, start it, return once it answers."""
        program = self.directory / "program"
        with tarfile.open(self._archive) as archive:
            archive.extractall(program, filter="data")
        self._port = free_port()
        child = self._child = Child(
            "registry",
            [
                self._java,
                *JVM,
                f"-Dquarkus.http.port={self._port}",
                "-jar",
                next(program.glob("*-runner.jar")),
            ],
            log=self.directory / "registry.log",
            directory=program,
        )
        wait_until(lambda: child.returncode is not None or self._answers(), "registry: start", timeout=60, interval=0.1)
        if child.returncode is not None:
            raise child.failure("does not start")

    def stop(self) -> None:
        """Kill it."""
        if self._child is not None:
            self._child.end()
            self._child = None

    def schema(self, identity: int) -> str:
        """The schema of an id, as JSON text. Raises RigError where it has none."""
        answer = httpx.get(f"{self.url}/schemas/ids/{identity}", timeout=TIMEOUT_SECS)
        if answer.status_code != httpx.codes.OK:
            raise RigError(f"registry: no schema {identity}: status {answer.status_code}")
        schema: str = json.loads(answer.content)["schema"]
        return schema

    def _answers(self) -> bool:
        try:
            return httpx.get(f"{self.url}/subjects", timeout=TIMEOUT_SECS).status_code == httpx.codes.OK
        except httpx.TransportError:
            return False
