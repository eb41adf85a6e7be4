"""Where ingest stands in Kafka, to look at and to change by an operator's hand."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from daemon.settings import Postgres
from daemon.state.database import Cursor, connect, transaction
from daemon.state.migrate import check_schema
from daemon.state.queries import queries

_SQL = queries("positions.sql")
_INGEST = queries("ingest.sql")


def read_positions(cursor: Cursor) -> list[dict[str, Any]]:
    """Each partition of each topic in its newest incarnation: position, counts, halt, gate; times are in UTC."""
    cursor.execute(_SQL["positions"])
    names = [column.name for column in cursor.description or ()]
    return [
        {
            name: value.astimezone(UTC) if isinstance(value, datetime) else value
            for name, value in zip(names, row, strict=True)
        }
        for row in cursor.fetchall()
    ]


def reset_positions(
    settings: Postgres, topic: str, topic_id: str, offsets: Mapping[int, int | None], who: str, asked: str
) -> None:
    """Set the next offset of these partitions (-1: the beginning; None: leave it), and let them go on if halted.

    `topic_id` is the present incarnation's, "" where the broker does not tell it. A consumer that is reading finds its
    position moved and goes on from here. Leaves a row in `operator_action` with `asked` and the offsets.
    Raises StateUnavailable, and SchemaError before `migrate`.
    """
    partitions = sorted(offsets)
    with connect(settings) as connection, transaction(connection, settings) as cursor:
        check_schema(cursor, settings.schema_name)
        named = {"topic": topic, "topic_id": topic_id, "partitions": partitions}
        if topic_id:
            arrays = {"topics": [topic] * len(partitions), "topic_ids": [topic_id] * len(partitions)}
            cursor.execute(_INGEST["adopt_topic_ids"], {**arrays, "partitions": partitions})
        else:
            cursor.execute(_INGEST["newest_topic_ids"], {"topics": [topic]})
            named["topic_id"] = dict(cursor.fetchall()).get(topic, "")
        cursor.execute(_SQL["register"], named)
        cursor.execute(_SQL["lock"], named)
        cursor.execute(_SQL["reset"], {**named, "offsets": [offsets[number] for number in partitions]})
        cursor.execute(_SQL["release_older"], named)
        arguments = {"topic": topic, "to": asked, "offsets": {str(number): offsets[number] for number in partitions}}
        action = {"who": who, "command": "position reset", "arguments": json.dumps(arguments)}
        cursor.execute(_INGEST["record_action"], {**action, "affected": len(partitions)})
