"""Every known way to get delivery wrong is found by the oracle, within a bounded number of seeds."""

from __future__ import annotations

from itertools import count, islice
from pathlib import Path

import pytest

from simulation.climate import STYLES
from simulation.mutants import MUTANTS, Mutant
from simulation.runner import run_memory

QUICK = ("no fence", "exclusion per process only", "digest stored before acceptance", "one shared due time")
"""Those of every test run; the others are for `make mutants`."""


def _tier(mutant: Mutant) -> object:
    marks = () if mutant.name in QUICK else (pytest.mark.simulate,)
    return pytest.param(mutant, marks=marks, id=mutant.name.replace(" ", "-"))


@pytest.mark.parametrize("mutant", [_tier(mutant) for mutant in MUTANTS])
def test_mutant_is_caught(mutant: Mutant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With this one patch some promise is broken, and the oracle says so."""
    mutant.make(monkeypatch)
    seeds = (seed for seed in count() if STYLES[seed % len(STYLES)] in mutant.styles)
    assert any(run_memory(seed, tmp_path).violations for seed in islice(seeds, mutant.seeds))
