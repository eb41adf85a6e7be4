"""A fleet of three under traffic, on Apache Kafka, through everything that a month of operation brings."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest
from fixtures.apache_kafka import POM
from fixtures.maven import UnavailableError, jars, java
from fleet_rig import NAMES, fleet_rig
from kill_rig import trading

from daemon.demo.compare import compare

# Ten rebalances that are forced on the group, five kills, two of the broker's, one of the state's server.
BEFALLS = ["restart"] * 4 + ["visit"] * 3 + ["zombie"] * 3 + ["kill"] * 5 + ["kafka_away"] * 2 + ["state_away"]


@pytest.mark.soak
@pytest.mark.apache_kafka
@pytest.mark.debezium
def test_three_replicas_through_rebalances_kills_and_servers_that_go_away(tmp_path: Path) -> None:
    """In random order under traffic. The API and the mirror equal the OMS, the books add up, no position went back."""
    try:
        java()
        libraries = jars(POM)
    except UnavailableError as error:
        pytest.skip(f"Apache Kafka from Maven: {error}")
    lots = random.Random(3)
    befalls = list(BEFALLS)
    lots.shuffle(befalls)
    lines: list[str] = []
    with fleet_rig(tmp_path, libraries, lots) as fleet:
        began = time.monotonic()
        with trading(fleet.shop, rate=30):
            for number, befall in enumerate(befalls):
                getattr(fleet, befall)()
                fleet.befell[befall] += 1
                # Every other time the next one comes while they still sort things out.
                if number % 2:
                    fleet.settle()
                print(f"{time.monotonic() - began:6.1f} s  {befall}", flush=True)
            fleet.settle()
        ends = fleet.catch_up()
        assert sorted(fleet.running) == sorted(NAMES)
        for name in NAMES:
            fleet.end(name)
        books, stats = fleet.books(ends), fleet.api.stats()
        status = compare(fleet.oms, fleet.api, lines.append)
        print("\n".join(lines))
        print(
            f"{sum(book.end for book in books)} messages in {len(books)} partitions, "
            f"{stats['accepted_orders']} orders accepted in {stats['requests']} requests, "
            f"{fleet.count_events('partitions assigned')} assignments, {dict(fleet.befell)}"
        )
        assert status == 0, "\n".join(lines)
        assert fleet.mirror_differences() == []
        assert len(books) == len(ends)
        assert [book for book in books if not book.add_up] == []
        assert fleet.steps_back() == []
        assert (stats["shared_in_flight"], stats["budget_violations"]) == (0, 0)
        assert fleet.errors() == []
