"""Typical mistakes in a mapping: each is told with its place, its cause and its cure, word for word."""

from __future__ import annotations

from pathlib import Path

from mapping_mistakes import MISTAKES, snapshot, told_by_the_file

EXPECTED = Path(__file__).parents[1] / "mapping_mistakes.txt"


def test_every_mistake_is_told_as_written_down() -> None:
    """Read what changed, then `python tests/mapping_mistakes.py > tests/mapping_mistakes.txt`."""
    assert snapshot() == EXPECTED.read_text(encoding="utf-8")


def test_each_is_told_once_with_its_place() -> None:
    """No mistake passes, none sets off a row of others, and every line begins with the file, line and column."""
    assert len(MISTAKES) >= 25
    for name, problems in told_by_the_file():
        assert 1 <= len(problems) <= 2, name
        assert all(problem.startswith("mapping.yaml:") for problem in problems), name
