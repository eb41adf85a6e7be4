"""What `check` finds: one line each, with its cure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    """How bad it is: only FAIL makes `check` fail."""

    OK = "ok"
    WARN = "warn"
    FAIL = "FAIL"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line: what was found and, where it is not ok, the cure."""

    level: Level
    what: str
    cure: str = ""

    def line(self) -> str:
        """As it is printed."""
        return f"{self.level:<4}  {self.what}" + (f"  — {self.cure}" if self.cure else "")


def ok(what: str) -> Finding:
    """All is well."""
    return Finding(Level.OK, what)


def doubtful(what: str, cure: str) -> Finding:
    """It works so, but will hurt."""
    return Finding(Level.WARN, what, cure)


def wrong(what: str, cure: str) -> Finding:
    """The daemon cannot work so."""
    return Finding(Level.FAIL, what, cure)


def said(text: str, level: Level = Level.FAIL) -> Finding:
    """A message of ours, which ends with its cure after the last semicolon."""
    what, _, cure = " ".join(text.split()).rpartition("; ")
    return Finding(level, what, cure) if what else Finding(level, cure, "see config/reference.yaml")
