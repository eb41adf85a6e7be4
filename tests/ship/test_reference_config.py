"""`config/` says what the code does: compared both ways."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel
from pydantic_core import PydanticUndefined
from ruamel.yaml import YAML

from daemon.sandbox.options import ApiKey, SandboxOptions
from daemon.sandbox.scenario import load_scenario
from daemon.settings import Destination, Section, Settings
from daemon.settings_file import load_settings

CONFIG = Path(__file__).parents[2] / "config"
REFERENCE = CONFIG / "reference.yaml"
UNITS_BY_NAME = {
    "_secs": "seconds",
    "_ms": "milliseconds",
    "_bytes": "bytes",
    "_days": "days",
    "_env": "environment variable",
}


def _keys(model: type[BaseModel], above: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every leaf key of the code with its default; a destination's keys stand under the reference's own name."""
    for name, field in model.model_fields.items():
        here = (*above, name)
        annotation = field.annotation
        if name == "destinations":
            yield from _keys(Destination, (*here, "northbeam"))
        elif isinstance(annotation, type) and issubclass(annotation, Section):
            yield from _keys(annotation, here)
        else:
            yield here, field.default


def _leaves(data: dict[str, Any], above: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, value in data.items():
        if isinstance(value, dict) and value:
            yield from _leaves(value, (*above, name))
        else:
            yield (*above, name), value


def _comments() -> dict[tuple[str, ...], str]:
    """The comment lines straight above each key of the reference."""
    path: list[str] = []
    comment: list[str] = []
    found: dict[tuple[str, ...], str] = {}
    for line in REFERENCE.read_text().splitlines():
        if match := re.match(r"( *)(\w+):", line):
            path[len(match[1]) // 2 :] = [match[2]]
            found[tuple(path)] = " ".join(comment)
            comment = []
        elif line.strip().startswith("#"):
            comment.append(line.strip().lstrip("# "))
        else:
            comment = []
    return found


KEYS = dict(_keys(Settings))
WRITTEN = dict(_leaves(YAML(typ="safe", pure=True).load(REFERENCE.read_text())))


def test_reference_loads() -> None:
    """The reference is itself a settings file."""
    assert load_settings(REFERENCE, environ={}).destinations.keys() == {"northbeam"}


def test_reference_lists_exactly_the_known_keys() -> None:
    """No key of the code is missing, and none stands there that the code does not know."""
    assert list(WRITTEN) == list(KEYS)


@pytest.mark.parametrize("key", KEYS, ids=".".join)
def test_reference_shows_the_default(key: tuple[str, ...]) -> None:
    """The value in the reference is the code's default; a required key shows an example."""
    default = KEYS[key]
    if default is PydanticUndefined:
        assert "Required" in _comments()[key]
    else:
        assert (WRITTEN[key], type(WRITTEN[key])) == (default, type(default))


@pytest.mark.parametrize("key", KEYS, ids=".".join)
def test_every_key_has_a_sentence_and_a_unit(key: tuple[str, ...]) -> None:
    """A comment above each key ends with the unit, and a unit in the key's name is the one the comment gives."""
    match = re.fullmatch(r"(?P<sentence>[A-Zt].{15,}[.]) Unit: (?P<unit>[^.]+|.*[.]\w.*)[.]", _comments()[key])
    assert match, _comments()[key]
    for ending, unit in UNITS_BY_NAME.items():
        if key[-1].endswith(ending):
            assert match["unit"].startswith(unit)


def test_local_config_loads_and_points_at_this_machine() -> None:
    """The local file is valid, sends to the sandbox's default address, and names a mapping of this repository."""
    settings = load_settings(CONFIG / "local.yaml", environ={})
    assert settings.destinations["sandbox"].base_url == "http://127.0.0.1:8765"
    assert settings.mapping.is_relative_to(CONFIG.parent)
    assert settings.mapping.is_file()


def test_sandbox_scenario_shows_every_switch_with_its_default() -> None:
    """The example is a scenario; but for its faults it changes nothing, and no switch is missing."""
    written = YAML(typ="safe", pure=True).load((CONFIG / "sandbox.yaml").read_text())
    assert list(written) == [field.name for field in dataclasses.fields(SandboxOptions)]
    loaded = load_scenario(CONFIG / "sandbox.yaml", ApiKey("other", "other"))
    assert dataclasses.replace(loaded, faults=()) == SandboxOptions()
    assert {fault.action for fault in loaded.faults} == {"status", "drop_after", "apply_late", "delay"}


def test_config_holds_data_only() -> None:
    """Nothing but YAML lives in config/, and what explains the mappings to people and to editors."""
    explained = {"README.md", "mapping.functions.md", "mapping.schema.json"}
    assert {path.suffix for path in CONFIG.rglob("*") if path.is_file() and path.name not in explained} == {".yaml"}
