"""The JSON Schema of the mapping and the table of its functions: in step with the code, and right for every mapping."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from mapping_cases import SHOP
from mapping_mistakes import MISTAKES
from ruamel.yaml import YAML

from daemon.mapping.functions import FUNCTIONS
from daemon.mapping.json_schema import function_table, schema, schema_text

ROOT = Path(__file__).parents[2]
MAPPINGS = [
    ROOT / "daemon/demo/shop/mapping.yaml",
    *sorted(path for path in (ROOT / "config").rglob("*.yaml") if "\ndocument:" in path.read_text(encoding="utf-8")),
]
BY_SCHEMA = [
    "a key misspelt",
    "an attribute misspelt",
    "a required attribute left out",
    "a list that YAML takes for its own",
    "an unknown policy",
    "another grammar",
]
"""The mistakes that an editor marks while they are typed; expressions are the loader's affair."""


def problems(text: str) -> list[str]:
    """What the schema says of a mapping's text."""
    validator = jsonschema.Draft202012Validator(schema())
    told: Any = YAML(typ="safe", pure=True).load(text)
    return [error.message for error in validator.iter_errors(told)]


def test_the_shipped_files_are_in_step() -> None:
    """`make schema` writes both."""
    assert (ROOT / "config/mapping.schema.json").read_text(encoding="utf-8") == schema_text()
    assert (ROOT / "config/mapping.functions.md").read_text(encoding="utf-8") == function_table()
    jsonschema.Draft202012Validator.check_schema(json.loads(schema_text()))


def test_every_function_is_in_the_table() -> None:
    """With its usage and meaning, in one line each."""
    lines = function_table().splitlines()
    assert len(lines) == len(FUNCTIONS) + 2
    for name in FUNCTIONS:
        assert any(line.startswith(f"| `{name}(") for line in lines), name


@pytest.mark.parametrize("path", MAPPINGS, ids=lambda path: str(path.relative_to(ROOT)))
def test_shipped_mappings_are_valid(path: Path) -> None:
    """Each names the schema for editors, and passes it."""
    text = path.read_text(encoding="utf-8")
    head = text.splitlines()[0]
    prefix = "# yaml-language-server: $schema="
    assert head.startswith(prefix)
    assert (path.parent / head.removeprefix(prefix)).resolve() == ROOT / "config/mapping.schema.json"
    assert problems(text) == []


@pytest.mark.parametrize("name", BY_SCHEMA)
def test_the_schema_marks_mistakes(name: str) -> None:
    """The same mistakes that the loader tells."""
    assert problems(SHOP) == []
    old, new = MISTAKES[name]
    assert problems(SHOP.replace(old, new))
