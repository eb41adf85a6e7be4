"""Folds rejected messages after all, once the mapping or the program can read them."""

from __future__ import annotations

import time
from collections.abc import Sequence

from daemon.ingest.change import Change, Message, Reject, Skip
from daemon.ingest.debezium import Decoder
from daemon.ingest.fold import StagedRow, Stager
from daemon.ingest.schema_registry import avro_reader
from daemon.mapping.model import Mapping
from daemon.settings import Settings
from daemon.state.ingest_store import PostgresIngestStore

PAGE = 500  # rejects in memory at once, and in one transaction


def retry_rejects(settings: Settings, mapping: Mapping, ids: Sequence[int] | None, who: str) -> dict[str, int]:
    """Decode the named open rejects (None: all) anew: how many were folded, stale, skipped, and rejected again.

    Each is folded where it stood in its partition, so that one which later changes overtook does not undo them. A
    lone tombstone among them is taken as such: what came before it in Kafka is not known here any more.
    """
    store = PostgresIngestStore.under(settings, mapping)
    decoder, stager = Decoder(mapping.structure, avro_reader(settings.kafka)), Stager(mapping.structure)
    counts = {"folded": 0, "stale": 0, "skipped": 0, "rejected": 0}

    def attempt(
        page: list[tuple[int, int, Message]],
    ) -> tuple[list[list[StagedRow]], list[int], dict[int, Reject]]:
        changes: list[tuple[int, Change]] = []
        resolved: list[int] = []
        failed: dict[int, Reject] = {}
        skipped = 0
        for number, origin, message in page:
            decoded = decoder.decode(message)
            if isinstance(decoded, Reject):
                failed[number] = decoded
                continue
            resolved.append(number)
            skipped += isinstance(decoded, Skip)
            if isinstance(decoded, Change):
                changes += [(origin, change) for change in (decoded, decoded.then) if change is not None]
        live_since = int((time.time() - settings.ingest.live_age_secs) * 1000)
        counts["rejected"] += len(failed)
        counts["skipped"] += skipped
        return stager.stage(changes, live_since), resolved, failed

    try:
        store.open(mapping.structure, list(settings.destinations))
        after = 0
        while True:
            after, result = store.retry(after, ids, PAGE, attempt)
            if not after:
                break
            counts["folded"] += result.folded.total()
            counts["stale"] += result.stale.total()
        store.record_action(who, "rejects retry", {"ids": ids and list(ids)}, counts["folded"] + counts["stale"])
    finally:
        store.close()
    return counts
