"""A real Prometheus scrapes the running demo: panels have data, alerts fire by their real faults and go out again."""

from __future__ import annotations

import json
import math
import re
import signal
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from chart.rules import marked
from chart.values import HELM
from confluent_kafka import Producer
from kill_rig import TIMEOUT, wait
from prometheus_rig import (
    JOB,
    RECORDED,
    REJECTS,
    VOIDS,
    NoPrometheusError,
    Prometheus,
    Watched,
    prometheus,
    scaled_rules,
    series,
    watched,
)

from daemon.sandbox.options import DEFAULT_KEY

pytestmark = [pytest.mark.debezium, pytest.mark.postgres, pytest.mark.kafka]

ORDERS = "oms.public.orders"


@pytest.fixture(scope="module")
def both() -> Iterator[tuple[Watched, Prometheus]]:
    """One for the file, as its start is most of it; each test leaves it as it should be."""
    scraping: list[Prometheus] = []

    @contextmanager
    def scrape(home: Path, url: str) -> Iterator[None]:
        with prometheus(home, url) as made:
            scraping.append(made)
            yield

    try:
        with watched(by=scrape) as line:
            yield line, scraping[0]
    except NoPrometheusError as error:
        pytest.skip(str(error))


@pytest.fixture
def line(both: tuple[Watched, Prometheus]) -> Watched:
    """The demo's line."""
    return both[0]


@pytest.fixture
def prom(both: tuple[Watched, Prometheus]) -> Prometheus:
    """What scrapes its daemon from the start."""
    return both[1]


def _panels() -> Iterator[tuple[str, str]]:
    """Dashboard, panel and one of its queries, with the template's variables filled in."""
    for path in sorted((HELM / "dashboards").glob("*.json")):
        board = json.loads(marked(path.read_text(encoding="utf-8"), within=900, objective=0.99))
        for panel in board["panels"]:
            for target in panel.get("targets", ()):
                query = target["expr"].replace("$job", JOB).replace("$__rate_interval", "1h")
                yield f"{path.stem}: {panel['title']}", query


def _without_comparison(expression: str) -> str:
    """Every comparison answers 0 or 1 instead of leaving out; what is asked to be absent is asked for."""
    asked = re.sub(r"^absent\((.*)\)$", r"\1", expression)
    return re.sub(r" (==|<|>) ", r" \1 bool ", asked)


def _empty(prom: Prometheus, queries: list[tuple[str, str]]) -> list[tuple[str, str]]:
    return [
        (name, query)
        for name, query in queries
        if not any(math.isfinite(float(one["value"][1])) for one in prom.query(query))
    ]


def test_every_panel_and_every_alert_has_data(line: Watched, prom: Prometheus) -> None:
    """And no alert fires in a shop where all is well."""
    with line.trading():
        line.reconcile_today()
        queries = [*_panels(), *((rule["alert"], _without_comparison(rule["expr"])) for rule in scaled_rules())]
        assert len(queries) > 80
        left = queries

        def all_answered() -> bool:
            nonlocal left
            left = _empty(prom, left)
            return not left

        try:
            wait(all_answered, "data everywhere")
        except AssertionError:
            assert left == []
        prom.await_quiet()


def test_the_recorded_scrape_is_what_the_demo_shows(line: Watched, prom: Prometheus) -> None:
    """The tests of the alerts use series of that record alone; `make scrape` renews it."""
    recorded = series(RECORDED.read_text(encoding="utf-8"))
    shown = recorded

    def all_there() -> bool:
        nonlocal shown
        shown = series(line.scrape())
        return recorded <= shown

    with line.trading():
        line.reconcile_today()
        try:
            wait(all_there, "every series that was recorded")
        except AssertionError:
            assert recorded - shown == set()
    assert shown - recorded == set()


def test_rejects(line: Watched, prom: Prometheus) -> None:
    """Poison messages: a few are kept, so many that the topic halts are a person's business."""
    poison = Producer({"bootstrap.servers": line.rig.broker.bootstrap, "log_level": 0})

    def put(count: int) -> None:
        for _ in range(count):
            poison.produce(ORDERS, b"no json", b"no json")
        assert poison.flush(TIMEOUT) == 0

    put(3)
    prom.await_firing("OrderSyncRejects")
    prom.await_quiet("OrderSyncRejects")
    put(REJECTS)
    prom.await_firing("OrderSyncSourceHalted")
    line.command("position", "reset", ORDERS, "--to", "here", "--yes")
    prom.await_quiet("OrderSyncSourceHalted", "OrderSyncRejects")


def test_quarantine(line: Watched, prom: Prometheus) -> None:
    """Orders that the API would refuse; mended in the OMS they go."""
    bad = [
        row[0]
        for row in line.oms.execute(
            "select id from orders where status = 'paid' and currency = 'USD' order by placed_at desc limit 5"
        )
    ]
    assert len(bad) == 5
    line.oms.execute("update orders set currency = 'dollars' where id = any(%s)", [bad])
    prom.await_firing("OrderSyncQuarantineGrowing")
    line.oms.execute("update orders set currency = 'USD' where id = any(%s)", [bad])
    prom.await_quiet("OrderSyncQuarantineGrowing")


def test_the_key_is_revoked(line: Watched, prom: Prometheus) -> None:
    """401: the destination halts."""
    line.api.key(DEFAULT_KEY, "revoked")
    with line.trading():
        prom.await_firing("OrderSyncDestinationHalted", "OrderSyncNotReady")
        line.api.key(DEFAULT_KEY, "good")
        prom.await_quiet("OrderSyncDestinationHalted", "OrderSyncNotReady")


def test_the_vendor_is_down(line: Watched, prom: Prometheus) -> None:
    """A storm of 503."""
    line.api.fault("status", status=503, count=None)
    with line.trading():
        prom.await_firing("OrderSyncCircuitOpen")
        line.api.clear_faults()
        prom.await_quiet("OrderSyncCircuitOpen")


def test_the_vendor_does_not_answer(line: Watched, prom: Prometheus) -> None:
    """Live orders get old, until held requests are answered again."""
    line.api.fault("delay", count=None)
    with line.trading():
        prom.await_firing("OrderSyncLiveOrdersStale")
        line.api.clear_faults()
        line.api.release()
        prom.await_quiet("OrderSyncLiveOrdersStale")


def test_orders_vanish_in_a_mass(line: Watched, prom: Prometheus) -> None:
    """The guard holds what is above its limit until a person says that it was meant."""
    line.rig.await_connector()
    with closing(line.oms.execute("select number from orders where status in ('paid', 'shipped')")) as rows:
        known = {row[0] for row in rows} & line.api.orders().keys()
    gone = sorted(known)[: VOIDS + 20]
    assert len(gone) == VOIDS + 20
    line.oms.execute("delete from orders where number = any(%s)", [gone])
    prom.await_firing("OrderSyncGuardHolding")
    line.command("guard", "release", "--all")
    prom.await_quiet("OrderSyncGuardHolding")

    def voided() -> bool:
        orders = line.api.orders()
        return not any(orders[number]["purchase_total"] for number in gone)

    wait(voided, "the voids")


def test_nobody_can_be_scraped(line: Watched, prom: Prometheus) -> None:
    """The daemon is frozen for a while."""
    line.child.send(signal.SIGSTOP)
    try:
        prom.await_firing("OrderSyncAbsent")
    finally:
        line.child.send(signal.SIGCONT)
    prom.await_quiet("OrderSyncAbsent")
