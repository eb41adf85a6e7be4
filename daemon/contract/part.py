"""One part of what `connector` prints: statements or text to paste, why, and where they are run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Part:
    """`items` are run one by one in their order; `language` says by what. `reason` is one sentence."""

    name: str
    reason: str
    language: Literal["json", "yaml", "sql", "sh", "ini", "text"]
    items: tuple[str, ...]
