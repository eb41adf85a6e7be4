"""Builds the loops in the order of the data path and runs them until told to stop.

Ingest is one thread, delivery another (asyncio, one task per destination), the main thread waits for signals. If one
loop dies, the process ends with its error. Stopping shares one deadline, `operate.shutdown_secs`.
"""

from __future__ import annotations

import asyncio
import gc
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import structlog

from daemon import __version__
from daemon.delivery.loop import DeliveryLoop
from daemon.delivery.orders_api import HttpOrdersApi
from daemon.errors import MappingError, Superseded, TryAgain
from daemon.ingest.kafka import KafkaSource
from daemon.ingest.loop import IngestLoop
from daemon.mapping.model import Mapping, check_columns
from daemon.operate.health import Health
from daemon.operate.metrics import Metrics
from daemon.operate.server import OperateServer
from daemon.operate.signals import asked_to_stop
from daemon.settings import Settings
from daemon.state.database import async_pool
from daemon.state.delivery_store import PostgresDeliveryStore
from daemon.state.ingest_store import PostgresIngestStore
from daemon.state.reads import Record, columns_seen, reading, records
from daemon.state.structure import claim_mapping, relink

log = structlog.get_logger()

LOOK_SECS = 0.2  # how often the main thread turns: looks whether a signal came, and what is left to catch up with


@dataclass(frozen=True, slots=True)
class Parts:
    """What every loop is handed."""

    settings: Settings
    mapping: Mapping
    metrics: Metrics
    health: Health
    stop: threading.Event


def run(settings: Settings, mapping: Mapping, role: str, until_caught_up: bool) -> int:
    """Run the daemon; the exit code. `role` is ingest, deliver or both.

    Raises RefuseToStart where a person has to change something first.
    """
    parts = Parts(settings, mapping, Metrics(), Health(settings.operate.stall_secs), threading.Event())
    parts.metrics.build_info.labels(
        version=__version__, mapping=mapping.version[:12], structure=mapping.structure.version[:12]
    ).set(1)
    server = OperateServer.start(
        settings.operate.listen_host, settings.operate.listen_port, parts.metrics, parts.health
    )
    log.info(
        "starting",
        version=__version__,
        role=role,
        port=server.port,
        mapping=mapping.version[:12],
        destinations={name: destination.base_url for name, destination in settings.destinations.items()},
    )

    def asked(number: signal.Signals) -> None:
        log.info("asked to stop", signal=number.name)
        parts.stop.set()

    try:
        with asked_to_stop(asked):
            if not _prepared(parts):
                return 1 if until_caught_up else 0
            calm_collector()
            return _run_loops(parts, role, until_caught_up)
    finally:
        server.stop()


def _prepared(parts: Parts) -> bool:
    """Wait for Postgres, check the mapping against it, register the destinations. False if stopped meanwhile."""
    while not parts.stop.is_set():
        try:
            with reading(parts.settings.postgres) as cursor:
                seen = columns_seen(cursor)
            if problems := check_columns(parts.mapping, seen):
                raise MappingError(problems)
            asyncio.run(_register(parts.settings))
            claim_mapping(parts.settings.postgres, parts.mapping.version, parts.mapping.structure)
            _relink(parts)
        except TryAgain as error:
            log.warning("waiting for the state", error=str(error))
            parts.stop.wait(1.0)
        except Superseded as error:
            log.warning("superseded", reason=str(error))
            return False
        else:
            return True
    return False


def _relink(parts: Parts) -> None:
    store = PostgresIngestStore.under(parts.settings, parts.mapping)
    try:
        store.open(parts.mapping.structure, list(parts.settings.destinations))
        relink(store, parts.settings.postgres, parts.mapping.structure, parts.stop.is_set)
    finally:
        store.close()


def calm_collector() -> None:
    """Let cyclic garbage be looked for less often, and not among what lives as long as the process.

    A batch makes some ten objects a message and leaves no cycles behind; looking at them again and again took a fifth
    of the loop's time.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 20, 20)


async def _register(settings: Settings) -> None:
    async with async_pool(settings.postgres) as pool:
        store = PostgresDeliveryStore(pool, settings.postgres)
        for name, destination in settings.destinations.items():
            await store.register(name, destination.base_url, destination.client_id)


def _run_loops(parts: Parts, role: str, until_caught_up: bool) -> int:
    errors: list[BaseException] = []
    threads: list[threading.Thread] = []
    ingest: IngestLoop | None = None
    if role in ("ingest", "both"):
        ingest = _ingest(parts)
        loop = ingest
        threads.append(_thread("ingest", lambda: loop.run(parts.settings.destinations), parts, errors))
    if role in ("deliver", "both"):
        threads.append(_thread("deliver", lambda: asyncio.run(_deliver(parts)), parts, errors))
    code = _watch(parts, ingest, role) if until_caught_up else _wait(parts)
    parts.stop.set()
    deadline = time.monotonic() + parts.settings.operate.shutdown_secs
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    if late := [thread.name for thread in threads if thread.is_alive()]:
        log.error("loops did not end in time", loops=late, shutdown_secs=parts.settings.operate.shutdown_secs)
        return 1
    log.info("stopped", code=1 if errors else code)
    return 1 if errors else code


def _ingest(parts: Parts) -> IngestLoop:
    settings = parts.settings
    return IngestLoop(
        settings,
        parts.mapping.structure,
        PostgresIngestStore.under(settings, parts.mapping),
        KafkaSource(settings.kafka, parts.mapping.structure.by_topic()),
        parts.metrics,
        parts.health.loop("ingest"),
        parts.stop,
        lambda seen: check_columns(parts.mapping, seen),
    )


async def _deliver(parts: Parts) -> None:
    """One delivery loop per destination; they share nothing but the pool, and one that fails ends them all."""
    settings = parts.settings
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    threading.Thread(
        target=lambda: (parts.stop.wait(), loop.call_soon_threadsafe(stop.set)), name="stop", daemon=True
    ).start()
    async with async_pool(settings.postgres) as pool:
        store = PostgresDeliveryStore(pool, settings.postgres)

        async def one(name: str) -> None:
            async with HttpOrdersApi(
                settings.destinations[name], settings.http, settings.delivery.connect_timeout_secs, time.monotonic
            ) as api:
                delivery = DeliveryLoop(
                    settings, name, parts.mapping, store, api, parts.metrics, parts.health.loop(f"deliver {name}")
                )
                await delivery.run(stop)
                parts.stop.set()  # superseded: the others end with it

        async with asyncio.TaskGroup() as tasks:
            for name in settings.destinations:
                tasks.create_task(one(name), name=f"deliver {name}")


def _thread(name: str, target: Callable[[], object], parts: Parts, errors: list[BaseException]) -> threading.Thread:
    def guarded() -> None:
        try:
            target()
        except Superseded as error:
            log.warning("superseded", loop=name, reason=str(error))
        except BaseException as error:
            errors.append(error)
            log.exception("loop died", loop=name)
        finally:
            parts.stop.set()

    thread = threading.Thread(target=guarded, name=name, daemon=True)
    thread.start()
    return thread


def _wait(parts: Parts) -> int:
    while not parts.stop.wait(LOOK_SECS):
        pass  # a signal may be handed to another thread: it is handled when this one turns, and never while it sleeps
    return 0


def _watch(parts: Parts, ingest: IngestLoop | None, role: str) -> int:
    """Wait until all that was in Kafka is folded and nothing that can be sent is owed; the exit code."""
    while not parts.stop.wait(LOOK_SECS):
        if ingest is not None and ingest.halted:
            log.error("cannot catch up: ingest is halted", topics=ingest.halted)
            return 1
        if ingest is not None and not ingest.caught_up.is_set():
            continue
        if role == "ingest":
            return 0
        try:
            with reading(parts.settings.postgres) as cursor:
                owed, held = records(cursor, "owed_orders"), records(cursor, "held_orders")
                destinations = records(cursor, "destinations")
        except TryAgain:
            continue
        mine = {record["name"]: record for record in destinations if record["name"] in parts.settings.destinations}
        if blocked := {name: why for name, record in mine.items() if (why := _stopped(parts.settings, record))}:
            log.error("cannot catch up: delivery is stopped", destinations=blocked)
            return 1
        counts = _counts([*owed, *({**record, "state": "held"} for record in held)], parts.settings)
        if not counts.get("owed") and not counts.get("in_flight"):
            log.info("caught up", **counts)
            return 3 if counts else 0
    return 1


def _stopped(settings: Settings, record: Record) -> str | None:
    """Why a destination sends nothing that can be waited for."""
    if settings.destinations[record["name"]].delivery == "off":
        return "delivery: off"
    return record["halted_reason"] or ("paused" if record["paused"] else None)


def _counts(owed: list[Record], settings: Settings) -> dict[str, int]:
    """Our orders by state. Where delivery is on, what a shadow left and what was asked for is yet to come."""
    counts: dict[str, int] = {}
    for record in owed:
        destination = settings.destinations.get(record["destination"])
        if destination is not None:
            coming = ("shadow", "asked") if destination.delivery == "on" else ()
            state = "owed" if record["state"] in coming else record["state"]
            counts[state] = counts.get(state, 0) + record["orders"]
    return counts
