"""What ingest does now and then besides folding: write down the columns that messages show, let old rejects go."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import structlog

from daemon.ingest.debezium import Decoder
from daemon.settings import Ingest
from daemon.state.ingest_store import IngestStore

log = structlog.get_logger()

CHORES_SECS = 5.0


class Chores:
    """`do` them as often as you like: they are done every `CHORES_SECS`. Times are monotonic seconds."""

    def __init__(
        self,
        settings: Ingest,
        store: IngestStore,
        decoder: Decoder,
        check_columns: Callable[[dict[str, set[str]]], list[str]],
    ) -> None:
        """`check_columns` is told the columns that messages showed, by source, and says what the mapping gets wrong."""
        self._keep = timedelta(days=settings.reject_keep_days)
        self._store = store
        self._decoder = decoder
        self._check_columns = check_columns
        self._columns: set[tuple[str, str, str]] = set()
        self._complained: set[str] = set()
        self._next = 0.0

    def hurry(self) -> None:
        """Let the next `do` not wait."""
        self._next = 0.0

    def do(self, now: float) -> None:
        """Do what is due. Raises StateUnavailable; the rest is then left for the next time."""
        if now < self._next:
            return
        self._next = now + CHORES_SECS
        self._note_columns()
        if gone := self._store.purge_rejects(self._keep):
            log.warning("old rejects removed", count=gone, keep_days=self._keep.days)

    def _note_columns(self) -> None:
        seen = {
            (source, name, kind)
            for source, columns in self._decoder.columns_seen().items()
            for name, kind in columns.items()
        }
        if not (new := seen - self._columns):
            return
        self._store.see_columns(sorted(new))
        self._columns |= new
        shown: dict[str, set[str]] = {}
        for source, name, _ in self._columns:
            shown.setdefault(source, set()).add(name)
        for problem in self._check_columns(shown):
            if problem not in self._complained:
                self._complained.add(problem)
                log.error("the mapping names a column that no message has", problem=problem)
