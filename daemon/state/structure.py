"""Which mapping is in force, and under what of it the mirrored rows were folded.

One mapping at a time: whoever folds or sends under another one ends in good order at its next transaction. A new
mapping is put in force by the first process that starts with it, or by `migrate`; an old one only by `migrate`, so that
a restarted replica of the previous version does not turn a rolling deploy back.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

import structlog

from daemon.errors import SchemaError
from daemon.mapping.structure import Structure
from daemon.settings import Postgres
from daemon.state.database import Cursor, connect, transaction
from daemon.state.ingest_store import PostgresIngestStore
from daemon.state.queries import queries

log = structlog.get_logger()

_SQL = queries("structure.sql")

PAGE = 5000

_OWN_STATE = (
    "give the new mapping a state of its own: set postgres.schema_name and kafka.group_id to new names and run "
    "`order-sync migrate`"
)


@dataclass(frozen=True, slots=True)
class Release:
    """What was deployed, by whom. The revision grows with every deploy, also with one that goes back."""

    name: str
    revision: int
    who: str


def claim_mapping(
    settings: Postgres,
    version: str,
    structure: Structure,
    *,
    by_hand: bool = False,
    release: Release | None = None,
    rebuilt: Collection[str] = (),
) -> None:
    """Put this mapping in force. Waits for transactions under way; those that begin later meet it.

    A revision of a release counts as `by_hand` the first time that it is met, unless a later one was met before.
    Raises SchemaError, and changes nothing, where the mapping was in force before and another one replaced it (unless
    `by_hand`), and where stored rows would have other keys or values under it, but for sources that are `rebuilt` next.
    """
    with connect(settings) as connection:
        with transaction(connection, settings) as cursor:
            # The lock queues fairly where `for share` of the row would let one fold after the other pass.
            cursor.execute(_SQL["lock_mapping_in_force"])
            if release is not None:
                cursor.execute(
                    _SQL["note_release"],
                    {"who": release.who, "release": release.name, "revision": release.revision},
                )
                by_hand = by_hand or cursor.rowcount == 1
            in_force, known, since = _versions(cursor, version)
            if in_force not in ("", version) and known and not by_hand:
                raise SchemaError(
                    f"mapping {version[:12]} was replaced by {in_force[:12]} (since {since:%Y-%m-%d %H:%M}); to go "
                    f"back to this one, run `order-sync migrate` with it"
                )
            _refuse_other_rows(cursor, structure, rebuilt)
            cursor.execute(_SQL["put_in_force"], {"version": version})
            if cursor.rowcount:
                log.info("mapping in force", mapping=version[:12], before=in_force[:12])
            cursor.execute(_SQL["note_version"], {"version": version})
            cursor.execute(_SQL["note_structure"], {"version": structure.version, "root": structure.root})
            note_values(cursor, structure, structure.sources.keys() - set(rebuilt))
        with transaction(connection, settings) as cursor:
            cursor.execute(_SQL["release_targets"], {"topics": [s.topic for s in structure.sources.values()]})


def note_values(cursor: Cursor, structure: Structure, sources: Collection[str]) -> None:
    """Note what makes the values of these sources' rows from now on."""
    names = sorted(sources)
    cursor.execute(queries("ingest.sql")["register_sources"], {"names": names})
    cursor.execute(
        _SQL["note_values"],
        {
            "names": names,
            "keys": [structure.sources[name].key_version() for name in names],
            "values": [structure.sources[name].values_version() for name in names],
        },
    )


def relink(store: PostgresIngestStore, settings: Postgres, structure: Structure, stopped: Callable[[], bool]) -> None:
    """Give stored rows the place that the relations of this mapping say, source by source, in pages.

    One process does it, the others wait for it. A source is done when it is done whole: who is stopped midway, or dies,
    leaves the rest to the next start. Raises Superseded where another mapping is in force meanwhile.
    """
    with connect(settings) as lock, transaction(lock, settings) as cursor:
        cursor.execute(_SQL["lock_relinking"])
        cursor.execute("set local idle_in_transaction_session_timeout to 0")  # the pages are other transactions
        cursor.execute(_SQL["relations"])
        stored: dict[str, str | None] = dict(cursor.fetchall())
        for name in sorted(structure.sources):
            version = structure.relations_version(name)
            if stored.get(name) == version:
                continue
            after: str | None = ""
            pages = 0
            while after is not None and not stopped():
                after = store.relink(name, after, PAGE)
                pages += 1
            if after is not None:
                return
            if pages > 1:
                log.info("rows follow the relations of the new mapping", source=name)
            store.note_relations(name, version)


def check_rows(settings: Postgres, structure: Structure) -> None:
    """Raise SchemaError where the stored rows are not what this structure would make of the topics. Changes nothing."""
    with connect(settings) as connection, transaction(connection, settings) as cursor:
        _refuse_other_rows(cursor, structure, ())
        cursor.execute(_SQL["relations"])
        stored: dict[str, str | None] = dict(cursor.fetchall())
    without = "start the daemon with this mapping first (it sends nothing while its destination is paused)"
    if unread := sorted(structure.sources.keys() - stored.keys()):
        raise SchemaError(f"mapping: nothing of source {unread[0]} was ever read; {without}, or use --from-topic")
    for name, source in sorted(structure.sources.items()):
        if stored[name] not in (None, source.relations_version()):
            raise SchemaError(
                f"mapping: the rows of {name} would lead to their orders in another way than they do now; {without}"
            )


def _versions(cursor: Cursor, version: str) -> tuple[str, bool, object]:
    cursor.execute(_SQL["versions"], {"version": version})
    [(in_force, since, known)] = cursor.fetchall()
    return in_force, known, since


def _refuse_other_rows(cursor: Cursor, structure: Structure, rebuilt: Collection[str]) -> None:
    cursor.execute(_SQL["stored_structure"])
    root, stored = None, {}
    for name, keys, values, filled, root_source in cursor.fetchall():
        root = root_source
        if filled and values is not None:  # filled before this was noted: nothing to compare with
            stored[name] = (keys, values)
    if root not in (None, structure.root):
        raise SchemaError(
            f"mapping: an order was one row of source {root} so far, and is one of {structure.root} now; {_OWN_STATE}"
        )
    for name, source in sorted(structure.sources.items()):
        if name in stored and stored[name][0] != source.key_version():
            raise SchemaError(
                f"mapping: `key:` of {name}, or a type of its columns, is not that of its stored rows; {_OWN_STATE}"
            )
    changed = sorted(
        name
        for name, source in structure.sources.items()
        if name in stored and name not in rebuilt and stored[name][1] != source.values_version()
    )
    if changed:
        options = " ".join(f"--source {name}" for name in changed)
        raise SchemaError(
            f"mapping: types, `drop` or connector modes of {', '.join(changed)} differ from those under which "
            f"the stored rows were read; run `order-sync rebuild {options}` with this mapping: it reads them anew "
            f"while delivery is held"
        )
