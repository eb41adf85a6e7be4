"""Quix Streams with its Postgres sink over topics: run by `peers.py` with the interpreter of Quix's own environment.

Reads a JSON object on stdin: bootstrap, tables (topic to table and key column), messages, postgres (host, port, dbname,
user, password). Writes {"seconds"} of the run, from the first message to the last commit.
"""

from __future__ import annotations

import json
import sys
import time
import uuid
from typing import Any

from quixstreams import Application
from quixstreams.sinks.community.postgresql import PostgreSQLSink

BATCH = 5000


def main() -> None:
    """Every message's `after` is upserted into its table, 5,000 messages to a commit."""
    asked: dict[str, Any] = json.load(sys.stdin)
    began: float | None = None

    def after(event: dict[str, Any]) -> Any:
        nonlocal began
        began = began or time.perf_counter()
        return event["after"]

    application = Application(
        broker_address=asked["bootstrap"],
        consumer_group=uuid.uuid4().hex,
        auto_offset_reset="earliest",
        commit_every=BATCH,
        loglevel="ERROR",
    )
    for name, table in asked["tables"].items():
        topic = application.topic(name, value_deserializer="json", key_deserializer="bytes")
        sink = PostgreSQLSink(
            **asked["postgres"],
            table_name=table["table"],
            primary_key_columns=table["key"],
            upsert_on_primary_key=True,
        )
        application.dataframe(topic).apply(after).sink(sink)
    application.run(count=asked["messages"], collect=False)
    assert began is not None
    json.dump({"seconds": time.perf_counter() - began}, sys.stdout)


if __name__ == "__main__":
    main()
