"""`values.yaml` with the comments that document it: the one source of the chart's schema and README."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

HELM = Path(__file__).parents[2] / "helm"
VALUES = HELM / "values.yaml"
ALERT = "alert"  # `@schema alert`: the knobs that all alerts share

Key = tuple[str, ...]


@dataclass(frozen=True)
class Value:
    """One key: default, sentence, and what `@schema` says beyond the default. `inner`: it has documented keys."""

    key: Key
    default: Any
    text: str
    schema: dict[str, Any] | str
    inner: bool


def read_values(path: Path = VALUES) -> list[Value]:
    """Every documented key, in the order of the file. Raises ValueError for one without a comment."""
    text = path.read_text(encoding="utf-8")
    data = YAML(typ="safe", pure=True).load(text)
    found: list[Value] = []
    opaque: Key | None = None  # below a key with a schema of its own nothing is documented
    for key, comment, schema in _keys(text):
        if opaque is not None and key[: len(opaque)] == opaque and key != opaque:
            continue
        default = _at(data, key)
        if not comment and not schema:
            raise ValueError(f"{path.name}: {'.'.join(key)} has no comment")
        inner = isinstance(default, dict) and bool(default) and not schema
        opaque = None if inner else key
        found.append(Value(key, default, comment, schema, inner))
    return found


def _keys(text: str) -> Iterator[tuple[Key, str, dict[str, Any] | str]]:
    path: list[str] = []
    comment: list[str] = []
    schema: dict[str, Any] | str = {}
    for line in text.splitlines():
        stripped = line.strip()
        if stripped.startswith("# @schema"):
            said = stripped.removeprefix("# @schema").strip()
            schema = said if said == ALERT else json.loads(said)
        elif stripped.startswith("#"):
            comment.append(stripped.lstrip("# "))
        elif match := re.match(r"( *)([\w.-]+):", line):
            path[len(match[1]) // 2 :] = [match[2]]
            yield tuple(path), " ".join(comment), schema
            comment, schema = [], {}
        else:
            comment, schema = [], {}


def _at(data: Any, key: Key) -> Any:
    for part in key:
        data = data[part]
    return data
