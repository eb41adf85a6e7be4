"""Many more random rows and documents for the two judges of a document than `make test` has time for."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
from judges import bent, disagreement, outcomes
from mapping_cases import SHOP, load

pytestmark = pytest.mark.soak

ROWS = 300_000
DOCUMENTS = 60_000


def test_many_random_rows(tmp_path: Any) -> None:
    """Other rows each time; the seed is told when it fails."""
    seed = Random().randrange(2**32)
    found = outcomes(load(tmp_path, SHOP), Random(seed), ROWS)
    print(f"seed {seed}: {dict(found)}")


def test_many_random_documents() -> None:
    """As above, for documents that break any rule."""
    seed = Random().randrange(2**32)
    lots = Random(seed)
    told = [text for text in (disagreement(bent(lots)) for _ in range(DOCUMENTS)) if text is not None]
    assert told == [], f"seed {seed}"
