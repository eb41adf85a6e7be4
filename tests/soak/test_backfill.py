"""A backfill beside live orders: how much of the budget it gets out, and how long fresh orders take meanwhile.

ORDER_SYNC_TEST_SOAK_BUDGET is the budget of a window in bytes (1,500,000: a twentieth of the API's; 30,000,000 is full
scale), ORDER_SYNC_TEST_SOAK_WINDOW its seconds (60), ORDER_SYNC_TEST_SOAK_WINDOWS how many are measured (10).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest
from fixtures.postgres import Database
from kill_rig import SCALED
from traffic_rig import percentile, rig_at

from daemon.sandbox.client import SandboxAdmin
from daemon.sandbox.options import SandboxOptions
from daemon.sandbox.server import SandboxServer

BUDGET = int(os.environ.get("ORDER_SYNC_TEST_SOAK_BUDGET", "1500000"))
WINDOW = float(os.environ.get("ORDER_SYNC_TEST_SOAK_WINDOW", "60"))
WINDOWS = int(os.environ.get("ORDER_SYNC_TEST_SOAK_WINDOWS", "10"))
LATENCY = 0.5
RATE = 5.0
LIVE = range(10_000_000, 20_000_000)
LIVE_LEAST = 1000
LIVE_SHARE = 0.5
DOCUMENT = 800  # bytes, at least
QUIET, LIVE_SLACK = 1.0, 5.0
DELIVERY: dict[str, Any] = {
    **SCALED["delivery"],
    "request_timeout_secs": 20,
    "lease_secs": 30,
    "resend_gap_secs": 0,
    "budget_bytes": BUDGET,
    "budget_window_secs": WINDOW,
    "max_request_bytes": min(BUDGET // 6, 4_000_000),
    "live_min_share": LIVE_SHARE,
}


@pytest.mark.soak
@pytest.mark.postgres
@pytest.mark.kafka
@pytest.mark.timeout(3600)
def test_a_backfill_uses_its_part_of_the_budget_while_live_orders_stay_fresh(
    tmp_path: Path,
    database: Database,
    connection: psycopg.Connection,
    broker: Any,
    topics: Callable[..., str],
) -> None:
    """No 429; 97 % of what the latency allows; live orders within the debounce and 5 s for 99 of 100."""
    options = SandboxOptions(budget_bytes=BUDGET, budget_window_secs=WINDOW, keep_requests=100_000)
    old = range(1, int(BUDGET * (1 - LIVE_SHARE) * (WINDOWS + 4) / DOCUMENT))
    with SandboxServer(options) as server, SandboxAdmin(server.url) as api:
        rig = rig_at(
            tmp_path,
            bootstrap=broker.bootstrap,
            names={table: topics(table) for table in ("orders", "order_lines")},
            state=(database.settings.dsn, connection),
            api=api,
            url=server.url,
            delivery=DELIVERY,
            debounce={"quiet_secs": QUIET, "max_wait_secs": 3},
            destination={"live_since": "2027-01-01"},  # whatever the backfill brings is old
        )
        for number in old:
            rig.traffic.order(number, old=True)
        rig.traffic.flush()
        api.fault("delay", seconds=LATENCY, count=None)
        with rig.running() as child:
            rig.until(lambda: rig.folded() == len(old), child, "the old orders to be folded", 1800)
            parked = "select from order_sync where hold = 'backfill' and parked_revision = revision"
            rig.until(lambda: len(rig.ask(parked)) == len(old), child, "the old orders to wait for the word", 1800)
            assert api.stats()["accepted_orders"] == 0, "an old order was sent unasked"
            fresh = iter(LIVE)
            with rig.traffic.steady(fresh, RATE):
                rig.command("backfill", "--since", "all")
                last = "select extract(epoch from max(reserved_at) - min(reserved_at))::float8 from delivery_request"
                enough = (WINDOWS + 1) * (WINDOW + LATENCY) + 5.0
                rig.until(lambda: (rig.ask(last)[0][0] or 0) > enough, child, "the windows to pass", 3 * enough)
                rig.until(lambda: len(rig.traffic.totals) >= len(old) + LIVE_LEAST, child, "the live orders", 3600)
            live = range(LIVE.start, next(fresh))
            assert rig.ask("select count(*) from order_sync where hold = 'backfill'")[0][0] > 0, "the backfill ran dry"
            live_left = "select from order_sync where order_key::bigint >= %s and revision > settled_revision"
            rig.until(lambda: not rig.ask(live_left, LIVE.start), child, "the live orders to be accepted")
            seconds = rig.figure("order_sync_request_seconds_sum")
            latency = seconds / rig.figure("order_sync_request_seconds_count")
        span = WINDOWS * (WINDOW + latency)
        [(sent,)] = rig.ask(
            "select coalesce(sum(bytes), 0)::bigint from delivery_request, (select min(reserved_at) first"
            " from delivery_request where lane = 1) f where lane = 1 and outcome = 'accepted'"
            " and reserved_at > first + make_interval(secs => %s)"
            " and reserved_at <= first + make_interval(secs => %s)",
            WINDOW,
            WINDOW + span,
        )
        allowed = WINDOWS * BUDGET * (1 - LIVE_SHARE)
        late = rig.lateness(live)
        stats = api.stats()
        print(
            f"backfill {sent} bytes in {span:.0f} s: {100 * sent / allowed:.1f} % of what a latency of {latency:.2f} s"
            f" allows ({100 * sent / span * WINDOW / (BUDGET * (1 - LIVE_SHARE)):.1f} % of its part of the budget);"
            f" {len(live)} live orders, p50 {percentile(late, 0.5):.2f} s, p99 {percentile(late, 0.99):.2f} s;"
            f" {stats['statuses']}, peak {stats['peak_bytes_in_window']} of {BUDGET} bytes in a window"
        )
        assert stats["statuses"].keys() == {"200"}
        assert stats["budget_violations"] == 0
        assert sent >= 0.97 * allowed
        assert len(live) >= LIVE_LEAST
        assert percentile(late, 0.99) <= QUIET + LIVE_SLACK
