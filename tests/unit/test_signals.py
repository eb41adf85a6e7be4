"""A signal may arrive while the main thread holds a lock that the answer to it needs."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from daemon.demo.demo import Trade
from daemon.operate.signals import ASKING, asked_to_stop

DEADLINE_SECS = 30.0


@pytest.mark.parametrize("number", ASKING)
def test_a_signal_within_the_wait_for_the_stop_stops(number: signal.Signals) -> None:
    """`Event.wait` holds the event's lock at its start and its end; the handler runs in the same thread."""
    stop, heard = threading.Event(), []

    def told(one: signal.Signals) -> None:
        heard.append(one)
        stop.set()

    before = signal.getsignal(number)
    with asked_to_stop(told):
        with stop._cond:  # type: ignore[attr-defined]  # as within `wait`
            os.kill(os.getpid(), number)
        assert stop.wait(DEADLINE_SECS)
        assert signal.getsignal(number) is signal.SIG_DFL, "the same signal again would end the process"
    assert heard == [number]
    assert signal.getsignal(number) is before


def test_elsewhere_than_in_the_main_thread_it_is_refused_and_leaves_nothing() -> None:
    """Only the main thread may set handlers."""
    found: list[object] = []

    def work() -> None:
        try:
            with asked_to_stop(lambda _: None):
                found.append("opened")
        except ValueError:
            found.append([thread.name for thread in threading.enumerate() if thread.name == "signals"])

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(DEADLINE_SECS)
    assert found == [[]]


def test_a_signal_within_the_wait_for_the_end_of_the_trade_ends_it() -> None:
    """The demo's first Ctrl-C, where the main thread is within `stop.wait`."""
    trade = Trade()
    with trade.signals():
        trade.open = True
        with trade.stop._cond:  # type: ignore[attr-defined]
            os.kill(os.getpid(), signal.SIGINT)
        assert trade.ended
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
