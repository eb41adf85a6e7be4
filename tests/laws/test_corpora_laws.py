"""Every recording ends as it must, however its messages are delivered: in any order, more than once, between crashes.

On the store in memory, which can be asked this often; `tests/integration/test_corpora_fold.py` asks Postgres.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

import corpora_loader
import pytest
from corpora_truth import ENDINGS
from deliveries import Again, Part, interleaved, twice
from fold_rig import Cuts, MemoryLine, Recording, recording

INTERLEAVINGS = 100
AGAIN = 12  # of each way, in random orders; `make soak` does 100

every_recording = pytest.mark.parametrize("name", corpora_loader.NAMES)


def check(recorded: Recording, parts: Sequence[Part], lots: random.Random, hint: object) -> None:
    """Fold these partitions in a random order, in batches of random size, and look at the end."""
    line = MemoryLine(recorded)
    line.fold_all(interleaved(parts, lots), lots, lots.choice((5, 50, 900)))
    assert recorded.judge.wrong(line.held()) == [], hint


def test_every_recording_has_an_ending() -> None:
    """A new one is not left out."""
    assert ENDINGS.keys() == set(corpora_loader.NAMES)


@every_recording
def test_any_order_between_partitions_ends_the_same(name: str) -> None:
    """File order, and a hundred others that keep the order within each partition, some of them far ahead of others."""
    recorded = recording(name)
    check(recorded, [recorded.messages], random.Random(name), "file order")
    for number in range(INTERLEAVINGS):
        check(recorded, recorded.parts, random.Random(f"{name} {number}"), number)


@every_recording
@pytest.mark.parametrize("how", Again)
def test_whatever_comes_again_changes_nothing(name: str, how: Again) -> None:
    """Every message twice or more, by a connector that restarted or by a position set back, among all the others."""
    recorded = recording(name)
    for number in range(AGAIN):
        lots = random.Random(f"{name} {how} {number}")
        check(recorded, [twice(part, how, lots) for part in recorded.parts], lots, number)


@every_recording
def test_a_crash_between_any_two_messages_changes_nothing(name: str) -> None:
    """What was folded before it stays, what was only consumed is read again, and what only the process knew, such as
    that a delete came last, is lost: at every boundary of the recording."""
    cuts, lots = Cuts(recording(name)), random.Random(name)
    for cut in range(len(cuts)):
        assert cuts.wrong_after(cut, lots.randint(1, 40), lots.randint(1, 40)) == [], cut
