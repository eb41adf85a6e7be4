"""Which partitions must not be read on, and what the halt says."""

from __future__ import annotations

import pytest

from daemon.ingest.gaps import HaltReason, Log, Stand, gap, halt_of, recreated

HOUR = 3_600_000
DAY = 24 * HOUR
NOW = 1_000 * DAY


@pytest.mark.parametrize(
    ("log", "stand", "reason"),
    [
        pytest.param(Log(0, 100), Stand(40, NOW), None, id="within"),
        pytest.param(Log(40, 100), Stand(40, NOW), None, id="at-the-start"),
        pytest.param(Log(0, 100), Stand(100, NOW), None, id="at-the-end"),
        pytest.param(Log(41, 100), Stand(40, NOW), HaltReason.RETENTION, id="one-deleted"),
        pytest.param(Log(41, 100), Stand(40, NOW, refused=True), HaltReason.RETENTION, id="deleted-and-refused"),
        pytest.param(Log(41, 41), Stand(40, NOW), HaltReason.RETENTION, id="all-deleted"),
        pytest.param(Log(500, 900), Stand(-1, 0), None, id="never-read-begins-anywhere"),
        pytest.param(Log(0, 30), Stand(40, NOW), None, id="an-end-too-low-for-a-moment"),
        pytest.param(Log(0, 30), Stand(40, NOW, refused=True), HaltReason.TRUNCATED, id="ends-before"),
        pytest.param(Log(0, 90), Stand(40, NOW, refused=True), HaltReason.TRUNCATED, id="has-grown-again"),
        pytest.param(Log(0, 100, DAY), Stand(40, NOW - DAY), None, id="compacted-in-time"),
        pytest.param(Log(0, 100, DAY), Stand(40, NOW - DAY - 1), HaltReason.COMPACTION, id="compacted-too-late"),
        pytest.param(Log(0, 40, DAY), Stand(40, NOW - 9 * DAY), None, id="compacted-nothing-unread"),
        pytest.param(Log(0, 100, DAY), Stand(-1, NOW - 9 * DAY), None, id="compacted-never-read"),
        pytest.param(Log(0, 100), Stand(40, NOW - 9 * DAY), None, id="not-compacted-however-late"),
    ],
)
def test_what_is_a_gap(log: Log, stand: Stand, reason: HaltReason | None) -> None:
    """Exactly what would be skipped in silence; a partition never read has none."""
    assert gap(log, stand, NOW) is reason


def test_the_text_says_place_cause_and_cure() -> None:
    """Topic, partition, offsets, and the commands that go on; the first gap stands for the others."""
    found = {
        3: (HaltReason.COMPACTION, Log(0, 100, DAY), Stand(40, 0)),
        1: (HaltReason.RETENTION, Log(150, 300), Stand(100, 0)),
    }
    halt = halt_of("shop.orders", "orders", found)
    assert halt.reason is HaltReason.RETENTION
    assert halt.why.startswith(
        "topic shop.orders partition 1 (and 1 more partitions): Kafka deleted offsets 100 to 149"
    )
    assert "`order-sync position reset shop.orders --to earliest`" in halt.why


@pytest.mark.parametrize("reason", [HaltReason.RETENTION, HaltReason.TRUNCATED, HaltReason.COMPACTION])
def test_every_gap_names_the_command_that_ends_it(reason: HaltReason) -> None:
    """A halt ends by command, not by restart."""
    halt = halt_of("t", "orders", {0: (reason, Log(5, 9, HOUR), Stand(3, 0))})
    assert "`order-sync position reset t --to" in halt.why
    assert "partition 0" in halt.why


def test_a_recreated_topic_names_both_ways_on() -> None:
    """From its beginning, or by a rebuild that also finds what is gone."""
    halt = recreated("t", "orders")
    assert halt.reason is HaltReason.RECREATED
    assert "`order-sync position reset t --to earliest`" in halt.why
    assert "`order-sync rebuild --source orders`" in halt.why
