"""Twenty kills -9 under traffic: of a daemon by itself, and of the leader of two."""

from __future__ import annotations

import random
import signal

import pytest
from kill_rig import kill_rig

KILLS = 20


@pytest.mark.soak
def test_twenty_kills_under_traffic_leave_no_difference() -> None:
    """Six between fold and commit, six with a POST in flight, eight anywhere, in random order: 0 differences."""
    lots = random.Random(20)
    points = ["fold"] * 6 + ["flight"] * 6 + ["anywhere"] * (KILLS - 12)
    lots.shuffle(points)
    lines: list[str] = []
    with kill_rig() as rig:
        with rig.trading(rate=20):
            for point in points:
                child = rig.start()
                if point == "fold":
                    rig.kill_between_fold_and_commit(child)
                elif point == "flight":
                    rig.kill_with_a_post_in_flight(child)
                else:
                    rig.kill_anywhere(child, lots.uniform(0, 4))
        status = rig.verdict(lines.append)
    print("\n".join(lines))
    assert rig.in_fold >= 5
    assert rig.in_flight >= 5
    assert rig.in_fold + rig.in_flight + rig.anywhere == KILLS
    assert status == 0, "\n".join(lines)


@pytest.mark.soak
def test_twenty_kills_of_the_leader_of_two_leave_no_difference() -> None:
    """Each time the leader is killed in the middle of a slow POST, which lands before that or afterwards; the other one
    takes over, and the killed one comes again: 0 differences."""
    lots = random.Random(3)
    lands_before = [True] * (KILLS // 2) + [False] * (KILLS - KILLS // 2)
    lots.shuffle(lands_before)
    lines: list[str] = []
    took_over = 0
    with kill_rig() as rig:
        with rig.trading(rate=20):
            children = {name: rig.start(name) for name in ("one", "two")}
            for applied in lands_before:
                rig.hold_a_post(applied=applied)
                name = rig.leader()
                [other] = children.keys() - {name}
                children[name].end(signal.SIGKILL)
                rig.api.release()
                rig.await_accepted(children[other])
                took_over += rig.leader() == other
                children[name] = rig.start(name)
        for child in children.values():
            child.end(signal.SIGTERM, timeout=60)
        status = rig.verdict(lines.append)
    print("\n".join(lines))
    assert took_over == KILLS
    assert status == 0, "\n".join(lines)
