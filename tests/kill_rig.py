"""A shop, real Debezium, the API's stand-in and daemons that are killed with -9 at chosen points."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager

import httpx
import psycopg

from daemon.demo.compare import compare
from daemon.demo.daemon_process import DaemonProcess
from daemon.demo.process import Child
from daemon.demo.shop.shop import Shop
from daemon.demo.stack import Stack
from daemon.sandbox.client import SandboxAdmin
from daemon.sandbox.server import SandboxServer

TIMEOUT = 60
# As in production but small, so that a take-over takes seconds: fence = 1 + 3 + 2.
SCALED = {
    "debounce": {"quiet_secs": 0.5, "max_wait_secs": 2},
    "delivery": {
        "start_grace_secs": 1,
        "request_timeout_secs": 3,
        "connect_timeout_secs": 2,
        "vendor_settle_secs": 2,
        "resend_gap_secs": 0.2,
        "lease_secs": 5,
        "lease_renew_secs": 0.5,
        "poll_interval_ms": 100,
        "waiting_recheck_secs": 1,
        "backoff_max_secs": 2,
        "max_voids_per_hour": 12_000,  # an hour of a shop goes by in a minute
    },
}
# Holds a fold after its last statement and before its commit, while armed.
TRAP = """
create table if not exists order_sync.fold_trap (armed boolean);
create or replace function order_sync.hold_fold() returns trigger language plpgsql as $$
begin
    if exists (select from order_sync.fold_trap) then perform pg_sleep(1); end if;
    return null;
end $$;
create or replace trigger hold_fold after update on order_sync.kafka_position
    for each statement execute function order_sync.hold_fold();
"""


def wait(condition: Callable[[], object], what: str, timeout: float = TIMEOUT) -> None:
    """Poll a condition that another process brings about; AssertionError at the deadline."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not happen within {timeout:g} s"
        time.sleep(0.005)


@contextmanager
def trading(shop: Shop, rate: float) -> Iterator[None]:
    """A shop works in a thread of its own meanwhile, and must not have failed at the end."""
    stop, failures = threading.Event(), []

    def work() -> None:
        try:
            shop.run(stop, rate=rate)
        except BaseException as error:  # noqa: BLE001 - told to the test
            failures.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(TIMEOUT)
    assert not failures


class KillRig:
    """Counts what it hit: `in_fold` (rolled back for sure), `in_flight` (a POST unanswered), `anywhere`."""

    def __init__(
        self, rig: Stack, shop: Shop, daemons: Mapping[str, DaemonProcess], api: SandboxAdmin, oms: psycopg.Connection
    ) -> None:
        self._rig, self._shop, self._daemons, self._oms = rig, shop, daemons, oms
        self.api = api
        self.in_fold = self.in_flight = self.anywhere = 0
        self._state = rig.postgres.connect(rig.state)

    def start(self, name: str = "one") -> Child:
        """A new daemon, once the API has accepted something since: of it, where it is the only one."""
        child = self._daemons[name].start("run")
        self.await_accepted(child)
        return child

    def await_accepted(self, child: Child) -> None:
        """Return once the API has accepted something more; the child must not end meanwhile."""
        before = self.api.stats()["accepted_orders"]
        wait(lambda: child.returncode is not None or self.api.stats()["accepted_orders"] > before, "an accepted order")
        assert child.returncode is None, child.failure(f"ended with {child.returncode}")

    def leader(self) -> str:
        """Which of the daemons says that it delivers; waited for where one has just taken over."""
        found: list[str] = []

        def told() -> bool:
            found[:] = [name for name, daemon in self._daemons.items() if _leads(daemon)]
            return len(found) == 1

        wait(told, "one leader")
        return found[0]

    def kill_between_fold_and_commit(self, child: Child) -> None:
        """Kill it when all of a fold is done but its commit, and see that Postgres rolled back."""
        self._state.execute("insert into order_sync.fold_trap values (true)")
        try:
            held: list[int] = []

            def caught() -> bool:
                row = self._state.execute(
                    "select backend_xid::text::bigint from pg_stat_activity"
                    " where wait_event = 'PgSleep' and query like '%update kafka_position%'"
                    " and backend_xid is not null"
                ).fetchone()
                if row is not None:
                    held.append(row[0])
                return bool(held)

            wait(caught, "a fold about to commit")
            child.end(signal.SIGKILL)
        finally:
            self._state.execute("delete from order_sync.fold_trap")
        status = "select pg_xact_status(%s::text::xid8)"
        wait(lambda: self._state.execute(status, [held[0]]).fetchone() != ("in progress",), "the fold's end")
        assert self._state.execute(status, [held[0]]).fetchone() == ("aborted",)
        self.in_fold += 1

    def kill_with_a_post_in_flight(self, child: Child) -> None:
        """Kill it while the API holds a request, which is applied only afterwards."""
        self.hold_a_post()
        child.end(signal.SIGKILL)
        self.api.release()
        self.in_flight += 1

    def hold_a_post(self, *, applied: bool = False) -> None:
        """Return once the API holds a request, which it applied already or applies when it is released."""
        self.api.fault("delay", applied=applied)
        self.api.wait("held", timeout_secs=TIMEOUT)

    def kill_anywhere(self, child: Child, after_secs: float) -> None:
        """Kill it at no point in particular."""
        assert child.wait(after_secs) is None
        child.end(signal.SIGKILL)
        self.anywhere += 1

    def verdict(self, say: Callable[[str], None]) -> int:
        """Let a last daemon do what is left; how the OMS and the API compare (0: equal), and that the books add up."""
        self._rig.await_connector()
        assert self._daemons["one"].catch_up(say)
        stats = self.api.stats()
        assert stats["shared_in_flight"] == 0
        assert stats["budget_violations"] == 0
        row = self._state.execute(
            "select sum(folded + stale + skipped + rejected), sum(greatest(next_offset, 0)), sum(rejected)"
            " from order_sync.kafka_position"
        ).fetchone()
        assert row is not None
        assert row[0] == row[1] > 0
        assert row[2] == 0
        return compare(self._oms, self.api, say)

    def trading(self, rate: float) -> AbstractContextManager[None]:
        """The shop works in a thread of its own meanwhile."""
        return trading(self._shop, rate)

    def close(self) -> None:
        """Give the connection back."""
        self._state.close()


def _leads(daemon: DaemonProcess) -> bool:
    try:
        text = httpx.get(daemon.metrics_url, timeout=2, trust_env=False).text
    except httpx.HTTPError:
        return False
    return 'order_sync_leader{destination="demo"} 1.0' in text


@contextmanager
def kill_rig() -> Iterator[KillRig]:
    """Everything started and migrated, the trap laid, no daemon running yet."""
    with ExitStack() as parts:
        rig = parts.enter_context(Stack())
        oms = parts.enter_context(closing(rig.postgres.connect(rig.oms)))
        shop = Shop(oms, settle_secs=3)
        shop.open(orders=50)
        rig.start_connector()
        sandbox = parts.enter_context(SandboxServer())
        api = parts.enter_context(SandboxAdmin(sandbox.url))
        daemons = {}
        for name in ("one", "two"):
            home = rig.directory / name
            home.mkdir()
            daemons[name] = DaemonProcess(home, rig, sandbox.url, SCALED)
        migration = daemons["one"].start("migrate")
        assert migration.wait(TIMEOUT) == 0, migration.failure("migrate failed")
        migration.end()
        with closing(rig.postgres.connect(rig.state)) as state:
            state.execute(TRAP)
        yield parts.enter_context(closing(KillRig(rig, shop, daemons, api, oms)))
