"""Mend: read sources anew in place, and remove rows that the OMS does not have any more."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from daemon.cli.context import ConfigOption, JsonOption, LimitOption, mapping_from, settings_from
from daemon.cli.mend import who
from daemon.cli.output import console, print_json, print_line, print_table
from daemon.errors import SettingsError
from daemon.mapping.model import Mapping
from daemon.settings import Settings
from daemon.state import rebuild as state
from daemon.state.ingest_store import PostgresIngestStore, TopicPartition
from daemon.state.structure import claim_mapping

ghosts = typer.Typer(no_args_is_help=True, help="Rows of the mirror that a rebuild did not meet again.")

WATCH_SECS = 1.0
STILL_SECS = 30.0  # nothing moved for so long: nobody seems to read

SourceOption = Annotated[list[str] | None, typer.Option("--source", help="A source of the mapping; may be repeated.")]


def rebuild(
    config: ConfigOption = None,
    sources: SourceOption = None,
    everything: Annotated[bool, typer.Option("--all", help="All sources of the mapping.")] = False,
    by_snapshot: Annotated[
        bool,
        typer.Option(
            "--by-snapshot", help="Do not read the topics again: a new snapshot that you start will show every row."
        ),
    ] = False,
    detach: Annotated[bool, typer.Option("--detach", help="Begin and return; the daemon does the work.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    json: JsonOption = False,
) -> None:
    """Read sources anew from the beginning of their topics, in place; without a source, watch the one under way.

    Rows stay until they are read again, delivery is held meanwhile, and orders that come out as before are not sent.
    Rows that were not met again are reported as ghosts and stay until `order-sync ghosts sweep`.
    """
    settings = settings_from(config)
    if sources or everything:
        mapping = mapping_from(settings)
        named = _named(mapping, sources, everything)
        _begin(settings, mapping, named, by_snapshot=by_snapshot, yes=yes, json=json)
        if detach or by_snapshot:
            return
    elif not state.progress(settings.postgres):
        print_json([]) if json else print_line("no rebuild is under way; name sources with --source, or --all")
        return
    if json:
        print_json([asdict(one) for one in state.progress(settings.postgres)])
        return
    _watch(settings)


def _named(mapping: Mapping, sources: Sequence[str] | None, everything: bool) -> list[str]:
    if bool(sources) == everything:
        raise SettingsError("name sources with --source or give --all; one of the two")
    if unknown := sorted(set(sources or ()) - mapping.structure.sources.keys()):
        raise SettingsError(
            f"--source {unknown[0]}: the mapping has no such source; it has {', '.join(sorted(mapping.sources))}"
        )
    return sorted(set(sources)) if sources else sorted(mapping.structure.sources)


def _begin(
    settings: Settings, mapping: Mapping, named: Sequence[str], *, by_snapshot: bool, yes: bool, json: bool
) -> None:
    structure = mapping.structure
    extents = {} if by_snapshot else _extents(settings, mapping, named)
    if not yes:
        size = (
            "a new snapshot"
            if by_snapshot
            else f"{sum(e.end - e.start for e in extents.values())} offsets of {len(extents)} partitions"
        )
        held = "" if by_snapshot else "; delivery is held until they are folded"
        typer.confirm(f"read {', '.join(named)} anew ({size}){held}. Go on?", abort=True)
    claim_mapping(
        settings.postgres,
        mapping.version,
        structure,
        by_hand=True,
        rebuilt=() if by_snapshot else named,
    )
    if by_snapshot:
        state.begin_by_snapshot(settings.postgres, structure, named, who())
        if not json:
            print_line("start a snapshot of these tables now; once it is through, see `order-sync ghosts list`")
        return
    state.begin(settings.postgres, structure, named, extents, who())
    if not json:
        print_line("begun; the daemon, with this mapping, does the work. Interrupting this command does not stop it")


def _extents(settings: Settings, mapping: Mapping, named: Sequence[str]) -> dict[TopicPartition, state.Extent]:
    """Every partition of the sources' topics. Raises SettingsError where reading anew would lose rows."""
    from daemon.ingest.cluster import Cluster  # no other path of this command needs Kafka's client

    topics = {mapping.structure.sources[name].topic: name for name in named}
    picture = Cluster(settings.kafka, topics).look()
    if picture.failure is not None:
        raise SettingsError(f"Kafka {settings.kafka.bootstrap_servers}: {picture.failure}; mend it and try again")
    extents: dict[TopicPartition, state.Extent] = {}
    for topic, source in topics.items():
        if topic in picture.refused:
            raise SettingsError(f"topic {topic}: {picture.refused[topic]}; grant this user Describe and Read on it")
        if topic not in picture.topics:
            raise SettingsError(f"topic {topic} does not exist; mend sources.{source}.topic or start its connector")
        found = picture.topics[topic]
        for number in found.partitions:
            log = picture.log((topic, number))
            if log is None:
                raise SettingsError(f"topic {topic}: partition {number} has no leader now; try again later")
            if log.start > 0 and found.expires:
                raise SettingsError(
                    f"topic {topic}: partition {number} begins at offset {log.start}, its older messages are gone; "
                    f"rows that only they hold could not be read again: use --by-snapshot and snapshot the table anew"
                )
            name = TopicPartition(topic, found.topic_id, number)
            extents[name] = state.Extent(log.start, log.end, log.keeps_deletes_ms)
    return extents


def _watch(settings: Settings) -> None:
    """A bar until the rebuild is done; then what it did not meet."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console(), transient=False) as bar:
        task = bar.add_task("rebuild", total=None)
        total, last, moved_at = 0, -1, time.monotonic()
        while left := state.progress(settings.postgres):
            total = max(total, sum(one.target for one in left))
            done = total - sum(one.target - one.done for one in left)
            bar.update(task, total=total, completed=done)
            if done != last:
                last, moved_at = done, time.monotonic()
            elif time.monotonic() - moved_at > STILL_SECS:
                moved_at = time.monotonic()
                bar.console.print(_standstill(left))
            time.sleep(WATCH_SECS)
        bar.update(task, total=total or 1, completed=total or 1)
    print_line("the rebuild is done; delivery goes on")
    _report(state.count_ghosts(settings.postgres, None))


def _standstill(left: Sequence[state.Progress]) -> str:
    halted = {f"{one.topic}: {one.halted}" for one in left if one.halted}
    return "; ".join(sorted(halted)) or "nothing moves: is the daemon running, with this mapping?"


def _report(found: dict[str, tuple[int, int]]) -> None:
    for source, (rows, orders) in found.items():
        print_line(f"{source}: {rows} ghosts in {orders} orders; see `order-sync ghosts list --source {source}`")


@ghosts.command("list")
def list_ghosts(
    config: ConfigOption = None, sources: SourceOption = None, limit: LimitOption = 100, json: JsonOption = False
) -> None:
    """Rows that were not met since their source was last rebuilt: deleted in the OMS while nobody was told."""
    settings = settings_from(config)
    found = [asdict(ghost) for ghost in state.ghosts(settings.postgres, sources, limit)]
    if json:
        print_json(found)
        return
    print_table("Ghosts", ["source", "key", "order"], found)
    if under_way := state.progress(settings.postgres):
        print_line(f"a rebuild is under way ({len(under_way)} partitions): what it has not read yet is listed too")
    _report(state.count_ghosts(settings.postgres, sources))


@ghosts.command("sweep")
def sweep_ghosts(
    config: ConfigOption = None,
    sources: SourceOption = None,
    everything: Annotated[bool, typer.Option("--all", help="The ghosts of all sources.")] = False,
    limit: Annotated[int, typer.Option("--max-orders", min=0, help="Refuse if more orders would change.")] = 100,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    json: JsonOption = False,
) -> None:
    """Delete ghosts as if the OMS had just deleted them: their orders are sent anew, or voided, as the mapping says."""
    settings = settings_from(config)
    mapping = mapping_from(settings)
    named = _named(mapping, sources, everything)
    topics = {mapping.structure.sources[name].topic for name in named}
    if busy := sorted({one.topic for one in state.progress(settings.postgres)} & topics):
        raise SettingsError(f"topic {busy[0]}: a rebuild is still reading it; wait for its end (`order-sync rebuild`)")
    found = state.count_ghosts(settings.postgres, named)
    rows, orders = sum(n for n, _ in found.values()), sum(n for _, n in found.values())
    if orders > limit:
        raise SettingsError(
            f"{rows} ghosts in {orders} orders, more than --max-orders {limit}; if `order-sync ghosts list` is right, "
            f"give --max-orders {orders}"
        )
    if rows and not yes:
        typer.confirm(f"delete {rows} rows in {orders} orders. Go on?", abort=True)
    store = PostgresIngestStore.under(settings, mapping)
    try:
        store.open(mapping.structure, list(settings.destinations))
        gone, due = state.sweep(store, settings.postgres, named, who())
    finally:
        store.close()
    print_json({"rows": gone, "orders": due}) if json else print_line(f"{gone} rows deleted, {due} orders due")
