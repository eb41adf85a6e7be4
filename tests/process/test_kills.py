"""The daemon killed at the two points that matter, and ended in order: nothing is lost and nothing stale stands."""

from __future__ import annotations

import signal

import pytest
from kill_rig import TIMEOUT, kill_rig

pytestmark = [pytest.mark.debezium, pytest.mark.postgres, pytest.mark.kafka]


def test_kills_and_an_orderly_end_under_traffic_leave_no_difference() -> None:
    """Killed between fold and commit, killed with a POST in flight, ended by SIGTERM with another: 0 differences."""
    lines: list[str] = []
    with kill_rig() as rig:
        with rig.trading(rate=20):
            rig.kill_between_fold_and_commit(rig.start())
            rig.kill_with_a_post_in_flight(rig.start())
            child = rig.start()
            rig.hold_a_post()
            child.send(signal.SIGTERM)
            rig.api.release()
            assert child.wait(TIMEOUT) == 0, child.failure("SIGTERM")
            child.end()
        assert rig.verdict(lines.append) == 0, "\n".join(lines)
    assert (rig.in_fold, rig.in_flight) == (1, 1)
