"""The recorder against a real connector: what it writes can be read back, and nothing is missing from it."""

from __future__ import annotations

import json
from pathlib import Path

import corpora_loader
import pytest
from corpora_loader import Corpus, Table
from recorder.record import record
from recorder.recordings import Recording

from daemon.mapping.keys import row_key

pytestmark = [pytest.mark.postgres, pytest.mark.kafka, pytest.mark.debezium]


EXACT = ("bigint", "integer", "smallint", "numeric")  # what this connector writes as the database prints it


def _last(corpus: Corpus, table: Table) -> dict[str, dict[str, str | None]]:
    """The numbers of the rows that the last message of each key leaves alive, by row key."""
    rows: dict[str, dict[str, str | None]] = {}
    for message in corpus.messages:
        if message.topic != table.topic:
            continue
        fields = json.loads(message.key or b"")
        key = row_key([fields[name] for name in table.pk])
        if message.value is None:
            del rows[key]
        elif (after := json.loads(message.value)["after"]) is not None:
            rows[key] = {name: _text(after.get(name, table.defaults[name])) for name in _numbers(table)}
    return rows


def _numbers(table: Table) -> list[str]:
    return [name for name, text in table.types.items() if text.startswith(EXACT) and not text.endswith("[]")]


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def test_a_recording_reads_back_with_every_change_and_the_truth(tmp_path: Path) -> None:
    """Each table's rows by the last message of each key are the truth's: no change is missing at either end.

    No property of the connector names this machine.
    """
    counts = record(Recording("tiny"), tmp_path)
    corpus = corpora_loader.read(tmp_path, "tiny")
    assert counts.total() == len(corpus.messages)
    assert corpus.tables.keys() == {"customers", "orders", "order_lines", "refunds"}
    for table in corpus.tables.values():
        want = {
            row_key([row[name] for name in table.pk]): {name: row[name] for name in _numbers(table)}
            for row in table.rows
        }
        assert _last(corpus, table) == want, table.name
    assert not any("127.0.0.1" in value or "/" in value for value in corpus.connector.values())
