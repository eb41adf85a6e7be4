"""A key revoked, a vendor away, masses of orders gone: no order pays for it, and nothing is zeroed unasked.

ORDER_SYNC_TEST_SOAK_SCALE: of the real spans (ten minutes, an hour) this part is waited for (0.05).
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest
from fixtures.postgres import Database
from kill_rig import SCALED
from traffic_rig import Rig, rig_at

from daemon.demo.process import Child
from daemon.sandbox.client import SandboxAdmin
from daemon.sandbox.options import DEFAULT_KEY
from daemon.sandbox.server import SandboxServer

pytestmark = [pytest.mark.soak, pytest.mark.postgres, pytest.mark.kafka, pytest.mark.timeout(3600)]

SCALE = float(os.environ.get("ORDER_SYNC_TEST_SOAK_SCALE", "0.05"))
REVOKED_SECS, AWAY_SECS = 600 * SCALE, 3600 * SCALE
MASS = 10_000
VOIDS = 50
DELIVERY: dict[str, Any] = {
    **SCALED["delivery"],
    "backoff_max_secs": 300 * SCALE,
    "halt_probe_secs": 60 * SCALE,
    "max_voids_per_hour": VOIDS,
}
Make = Callable[..., "Place"]


@dataclass
class Place:
    """A rig and the server of its API."""

    rig: Rig
    server: SandboxServer


@pytest.fixture
def place(
    tmp_path: Path, database: Database, connection: psycopg.Connection, broker: Any, topics: Callable[..., str]
) -> Iterator[Make]:
    """Makes the one place of a test, with an `on_delete`."""
    with ExitStack() as parts:

        def make(on_delete: str) -> Place:
            server = parts.enter_context(SandboxServer())
            api = parts.enter_context(SandboxAdmin(server.url))
            rig = rig_at(
                tmp_path,
                bootstrap=broker.bootstrap,
                names={table: topics(table) for table in ("orders", "order_lines")},
                state=(database.settings.dsn, connection),
                api=api,
                url=server.url,
                delivery=DELIVERY,
                on_delete=on_delete,
                destination={"live_since": "1970-01-01"},
            )
            return Place(rig, server)

        yield make


def test_a_revoked_key_and_a_vendor_away_cost_no_order_an_attempt(place: Make) -> None:
    """The alarm is up while it lasts, no attempt is counted, and afterwards everything is accepted as it is then."""
    here = place("keep")
    rig = here.rig
    with rig.running() as child, rig.traffic.steady(itertools.cycle(range(1, 200)), rate=10):
        rig.api.wait("orders", least=199, timeout_secs=60)

        rig.api.key(DEFAULT_KEY, "revoked")
        up = stays_up(rig, child, "order_sync_destination_halted", REVOKED_SECS)
        rig.api.key(DEFAULT_KEY)
        catches_up(rig, child)
        print(f"revoked for {REVOKED_SECS:.0f} s: halted {up:.0%} of it")
        assert up > 0.8

        for name, begin, end in absences(here):
            begin()
            up = stays_up(rig, child, "order_sync_circuit_open", AWAY_SECS / 3)
            end()
            catches_up(rig, child)
            print(f"{name} for {AWAY_SECS / 3:.0f} s: circuit open {up:.0%} of it")
            assert up > 0.4  # it opens after some failures in a row, of which each takes a back-off
    assert rig.attempts() == []
    assert rig.ask("select from order_sync where quarantine_revision is not null") == []
    with rig.running() as child:
        rig.until(lambda: not rig.owed(), child, "everything to be accepted")
    assert rig.wrong() == []
    assert rig.api.stats()["shared_in_flight"] == 0


def absences(here: Place) -> Iterator[tuple[str, Callable[[], object], Callable[[], object]]]:
    """Three ways for the vendor to be away: how each begins and ends."""
    api, server = here.rig.api, here.server

    def silent_no_more() -> None:
        api.clear_faults()
        api.release()

    yield "answering 503", lambda: api.fault("status", status=503, count=None), api.clear_faults
    yield "not answering", lambda: api.fault("delay", count=None), silent_no_more
    yield "not there", server.stop, server.start


def stays_up(rig: Rig, child: Child, alarm: str, secs: float) -> float:
    """Let the time pass; in which share of it the alarm was seen."""
    seen = []
    rounds = max(int(secs / 0.5), 1)
    for _ in range(rounds):
        assert child.wait(0.5) is None, child.failure("ended by itself")
        seen.append(rig.figure(alarm) == 1)
    return sum(seen) / rounds


def catches_up(rig: Rig, child: Child) -> None:
    """Every order that is owed now is accepted, while others go on."""
    owed = "select order_key, revision from order_sync where revision > settled_revision"
    wanted = dict(rig.ask(owed))
    left = (
        "select from order_sync o, unnest(%s::text[], %s::bigint[]) w (key, revision)"
        " where o.order_key = w.key and o.settled_revision < w.revision"
    )
    rig.until(lambda: not rig.ask(left, list(wanted), list(wanted.values())), child, "what was owed to be accepted")


@pytest.mark.parametrize("on_delete", ["keep", "void"])
def test_masses_of_orders_that_go_zero_nothing_unasked(place: Make, on_delete: str) -> None:
    """Ten thousand deletes in one transaction, a TRUNCATE, ghosts swept: what goes to 0 is what the guard allows, other
    orders flow meanwhile, and what it holds goes when a person says so."""
    rig = place(on_delete).rig
    allowed = 0 if on_delete == "keep" else VOIDS
    kept = range(MASS + 1, MASS + 101)
    for number in range(1, MASS + 101):
        rig.traffic.order(number)
    rig.traffic.flush()
    with rig.running() as child:
        rig.until(lambda: rig.folded() == MASS + 100 and not rig.owed(), child, "all orders to be accepted", 1200)

        rig.traffic.delete(range(1, MASS + 1))
        flows(rig, child, kept)
        assert zeroed(rig) <= allowed
        rig.traffic.truncate("orders")
        flows(rig, child, kept)
        assert rig.figure("order_sync_messages_total", reason="truncate") == 1
        assert zeroed(rig) <= allowed
        if on_delete == "void":
            decided(rig, child, MASS)
    assert rig.wrong() == []


def test_ghosts_that_are_swept_zero_nothing_unasked(place: Make) -> None:
    """A new snapshot shows a few orders of many; the others, swept, go to 0 as far as the guard allows."""
    rig = place("void").rig
    kept, ghosts = range(1, 101), range(101, 1101)
    for number in range(1, 1101):
        rig.traffic.order(number)
    rig.traffic.flush()
    with rig.running() as child:
        rig.until(lambda: rig.folded() == 1100 and not rig.owed(), child, "all orders to be accepted", 1200)
        rig.command("rebuild", "--source", "orders", "--by-snapshot", "--yes")
        flows(rig, child, kept)
        rig.command("ghosts", "sweep", "--source", "orders", "--max-orders", "1000", "--yes")
        rig.traffic.totals.update(dict.fromkeys(ghosts))
        flows(rig, child, kept)
        decided(rig, child, len(ghosts))
    assert rig.wrong() == []


def decided(rig: Rig, child: Child, mass: int) -> None:
    """All but what may go are guarded, and go to 0 once that is asked for."""
    guarded = "select count(*) from order_sync where hold = 'guarded' and parked_revision = revision"
    rig.until(lambda: rig.ask(guarded) == [(mass - VOIDS,)], child, "the others to be guarded")
    rig.until(lambda: rig.figure("order_sync_orders", state="guarded") == mass - VOIDS, child, "the metric to say so")
    assert zeroed(rig) == VOIDS
    rig.command("guard", "release", "--all")
    rig.until(lambda: zeroed(rig) == mass, child, "the released ones to go to 0", 600)


def flows(rig: Rig, child: Child, numbers: range) -> None:
    """Orders that have nothing to do with it are changed, and accepted."""
    for number in numbers:
        rig.traffic.order(number)
    rig.traffic.flush()
    rig.until(lambda: not rig.wrong(), child, "other orders to be accepted")


def zeroed(rig: Rig) -> int:
    """Orders that are 0 at the API."""
    return sum(document["purchase_total"] == 0 for document in rig.api.orders().values())
