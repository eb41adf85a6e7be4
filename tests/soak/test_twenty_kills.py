"""Twenty kills -9 under traffic."""

from __future__ import annotations

import random

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
