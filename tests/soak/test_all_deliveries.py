"""The laws of `tests/laws/test_corpora_laws.py` at full length: a hundred of each, and no cut taken for another."""

from __future__ import annotations

import random

import corpora_loader
import pytest
from deliveries import Again, interleaved, twice
from fold_rig import Cuts, MemoryLine, recording

TIMES = 100

pytestmark = pytest.mark.soak

every_recording = pytest.mark.parametrize("name", corpora_loader.NAMES)


@every_recording
@pytest.mark.parametrize("how", Again)
def test_whatever_comes_again_changes_nothing(name: str, how: Again) -> None:
    """Every message twice or more, in a hundred random orders."""
    recorded = recording(name)
    for number in range(TIMES):
        lots = random.Random(f"{name} {how} {number} soak")
        line = MemoryLine(recorded)
        line.fold_all(interleaved([twice(part, how, lots) for part in recorded.parts], lots), lots, 900)
        assert recorded.judge.wrong(line.held()) == [], number


@every_recording
def test_a_crash_between_any_two_messages_changes_nothing(name: str) -> None:
    """After every cut all that follows is folded, to the last message."""
    cuts, lots = Cuts(recording(name)), random.Random(name)
    for cut in range(len(cuts)):
        assert cuts.wrong_after(cut, lots.randint(1, 40), lots.randint(1, 40), to_the_end=True) == [], cut
