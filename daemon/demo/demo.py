"""The whole line on one machine: shop, Debezium, Kafka, Postgres, daemon and the API's stand-in; then the comparison.

The daemon is a real process (`python -m daemon run`) with a settings file of its own. When the trade ends it gets
SIGTERM, and a second one catches up, so that every demo crosses a restart.
"""

from __future__ import annotations

import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from types import FrameType

import psycopg

from daemon.demo.compare import compare
from daemon.demo.daemon_process import QUIET_SECS, DaemonProcess
from daemon.demo.figures import scrape
from daemon.demo.process import RigError
from daemon.demo.shop.shop import Shop
from daemon.demo.stack import Stack
from daemon.demo.view import View
from daemon.errors import OrderSyncError
from daemon.sandbox.client import SandboxAdmin
from daemon.sandbox.server import SandboxServer

PAST_ORDERS = 150
ACTIONS_PER_SEC = 20.0
LOOK_SECS = 0.5
INTERRUPTED = 130


class Trade:
    """Open until it `ended`: by time, or by the first Ctrl-C. A second Ctrl-C ends everything.

    The handler leaves the event `stop`, which ends the shop's work, alone: it may run in the midst of anything.
    """

    def __init__(self) -> None:
        self.stop = threading.Event()
        self.open = False
        self.ended = False

    @contextmanager
    def signals(self) -> Iterator[None]:
        """Ctrl-C and SIGTERM end the trade while it is open, else the demo."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self._signalled) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _signalled(self, number: int, frame: FrameType | None) -> None:
        del number, frame
        if not self.open or self.ended:
            raise KeyboardInterrupt
        self.ended = True


def run_demo(*, duration: float | None, sabotage: bool = False, directory: Path | None = None) -> int:
    """Run it for `duration` seconds of trade, or until Ctrl-C. Returns the exit status: 0 only without a difference.

    Files lie in `directory`, else in a temporary one that is kept where something went wrong.
    """
    view = View()
    trade = Trade()
    home = directory or Path(tempfile.mkdtemp(prefix="order-sync-demo-"))
    home.chmod(0o755)  # root's Postgres runs as `nobody`
    keep = directory is not None
    try:
        with trade.signals():
            status = _demo(view, trade, home, duration, sabotage=sabotage)
        keep = keep or bool(status and not sabotage)
    except KeyboardInterrupt:
        view.say("interrupted")
        status = INTERRUPTED
    except OrderSyncError as error:
        view.say(f"demo: {error}")
        status, keep = 1, True
    if keep:
        view.say(f"logs: {home}")
    else:
        shutil.rmtree(home, ignore_errors=True)
    return status


def _demo(view: View, trade: Trade, home: Path, duration: float | None, *, sabotage: bool) -> int:
    with ExitStack() as parts:
        rig = parts.enter_context(Stack(home, note=view.say))
        oms = parts.enter_context(closing(rig.postgres.connect(rig.oms)))
        view.say("opening the shop")
        shop = Shop(oms, settle_secs=3 * QUIET_SECS)
        shop.open(orders=PAST_ORDERS)
        rig.start_connector()
        sandbox = parts.enter_context(SandboxServer())
        api = parts.enter_context(SandboxAdmin(sandbox.url))
        daemon = DaemonProcess(home, rig, sandbox.url)
        view.say(f"to look inside meanwhile: {daemon.example}")
        _trade(view, trade, duration, daemon, shop, api)
        view.say("the shop is closed; a second daemon catches up")
        rig.await_connector()
        caught_up = daemon.catch_up(view.say)
        if sabotage:
            flipped = api.flip()
            view.say(f"sabotage: {flipped['attribute']} of {flipped['order_id']} was changed at the API")
        return compare(oms, api, view.say) or (0 if caught_up else 1)


def _trade(
    view: View, trade: Trade, duration: float | None, daemon: DaemonProcess, shop: Shop, api: SandboxAdmin
) -> None:
    """The shop works, for `duration` seconds or until Ctrl-C, while the daemon runs."""
    view.say("starting the daemon")
    with daemon.running() as child, ThreadPoolExecutor(1, "shop") as pool:
        trade.open = True
        work = pool.submit(shop.run, trade.stop, rate=ACTIONS_PER_SEC)
        end = None if duration is None else time.monotonic() + duration
        try:
            with view.live():
                while not trade.ended and child.returncode is None and not work.done():
                    time.sleep(LOOK_SECS)
                    left = None if end is None else end - time.monotonic()
                    if left is not None and left <= 0:
                        break
                    view.show(left, scrape(daemon.metrics_url), shop.done, api.stats())
        finally:
            trade.ended = True
            trade.stop.set()
    try:
        work.result()
    except psycopg.Error as error:
        raise RigError(f"the shop's database connection failed: {error}") from error
