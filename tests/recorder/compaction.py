"""Waiting for a real Kafka to compact topics, and what their readers can no longer know."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from recorder.messages import Line

from daemon.mapping.keys import row_key

PLACEHOLDERS = (
    "__debezium_unavailable_value",
    ["__debezium_unavailable_value"],
    list(b"__debezium_unavailable_value"),
    "X19kZWJleml1bV91bmF2YWlsYWJsZV92YWx1ZQ==",
)


def is_compacted(log_directory: Path, topics: Collection[str]) -> bool:
    """Has the cleaner read all segments of the topics but for those still written to? By the server's own files."""
    checkpoint = log_directory / "cleaner-offset-checkpoint"
    cleaned: dict[str, int] = {}
    for line in checkpoint.read_text().splitlines()[2:] if checkpoint.exists() else ():
        topic, partition, offset = line.split()
        cleaned[f"{topic}-{partition}"] = int(offset)
    partitions = [path for topic in topics for path in log_directory.glob(f"{topic}-[0-9]*")]
    return bool(partitions) and all(cleaned.get(path.name, 0) >= _active(path) for path in partitions)


def _active(partition: Path) -> int:
    """The first offset of the segment that a partition is still written to."""
    return max((int(path.stem) for path in partition.glob("*.log")), default=0)


def unknowns(lines: Iterable[Line], tables: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, list[str]]]:
    """By table and canonical row key, the columns whose last word is a placeholder with no value of it before.

    Reads envelopes without schemas, in their order within each partition.
    """
    lost = {name: _lost(name, table["pk"], lines) for name, table in tables.items()}
    return {name: keys for name, keys in lost.items() if keys}


def _lost(table: str, key_columns: Iterable[str], lines: Iterable[Line]) -> dict[str, list[str]]:
    known: dict[str, set[str]] = {}
    lost: dict[str, set[str]] = {}
    for topic, *_, message_key, _, value in lines:
        if topic != f"oms.{table}":
            continue
        fields = json.loads(str(message_key))
        key = row_key([fields[column] for column in key_columns])
        after = json.loads(str(value))["after"] if value is not None else None
        if after is None:
            known.pop(key, None)
            lost.pop(key, None)
            continue
        held = {column for column in after if after[column] in PLACEHOLDERS}
        known[key] = known.get(key, set()) | (after.keys() - held)
        lost[key] = held - known[key]
    return {key: sorted(columns) for key, columns in sorted(lost.items()) if columns}
