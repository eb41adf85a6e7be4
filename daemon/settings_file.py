"""Reads the settings file and says every mistake in it: file, line, key, value, bound and cure; never a secret."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node

from daemon.errors import SettingsError
from daemon.settings import Section, Settings

PREFIX = "ORDER_SYNC_"  # of every environment variable that is ours


def load_settings(path: Path, environ: Mapping[str, str] | None = None) -> Settings:
    """Read and check the settings file and the names of our environment variables.

    Raises SettingsError with a line for each mistake: file, line, key, what is wrong, bound and cure. Relative paths
    in the file start from its folder.
    """
    try:
        text = path.read_text(encoding="utf-8")
        data = YAML(typ="safe", pure=True).load(text)
        tree = YAML(pure=True).compose(text)
    except OSError as error:
        raise SettingsError(
            f"{path}: cannot be read: {error.strerror}; name the file with --config or {PREFIX}CONFIG"
        ) from error
    except UnicodeDecodeError:
        raise SettingsError(f"{path}: is not UTF-8 text") from None
    except YAMLError as error:
        raise SettingsError(_not_yaml(path, error)) from None
    if not isinstance(data, dict):
        raise SettingsError(f"{path}: must be a mapping of sections, see config/reference.yaml")
    try:
        settings = Settings.model_validate(data)
    except ValidationError as error:
        problems = error.errors(include_url=False)
        raise SettingsError("\n".join(f"{path}:{_problem(problem, tree)}" for problem in problems)) from None
    _refuse_unknown_variables(settings, os.environ if environ is None else environ)
    http = settings.http
    if http.ca_bundle:
        http = http.model_copy(update={"ca_bundle": (path.parent / http.ca_bundle).resolve()})
    return settings.model_copy(update={"mapping": (path.parent / settings.mapping).resolve(), "http": http})


def _not_yaml(path: Path, error: YAMLError) -> str:
    """Without the excerpt that the parser adds: it may hold what should not be shown."""
    mark = error.problem_mark if isinstance(error, MarkedYAMLError) else None
    where = f"{path}:{mark.line + 1}:{mark.column + 1}" if mark else str(path)
    problem = str(getattr(error, "problem", None) or "it cannot be read").partition(" with value ")[0]
    return f"{where}: is not YAML: {problem}; mend the line"


# Where a person may have put a secret by mistake: the value is not repeated.
_HIDDEN = re.compile(r"(^|\.)(dsn|proxy|properties|secret_properties|schema_registry_\w+|base_url)(\.|$)|_env$")


def _problem(problem: ErrorDetails, tree: Node) -> str:
    location = [str(part) for part in problem["loc"] if part != "[key]"]
    where = ".".join(location) or "(file)"
    what = problem["msg"].removeprefix("Value error, ")
    if problem["type"] == "extra_forbidden":
        what = "unknown key" + _near(location[-1], _keys_beside(location), "config/reference.yaml lists the known ones")
    elif problem["type"] == "missing":
        what = "is required; config/reference.yaml shows it"
    elif isinstance(problem["input"], int | float | str) and not _HIDDEN.search(where):
        what = f"{what} (is {problem['input']!r:.60})"
    return f"{_line(tree, location)}: {where}: {what}"


def _line(tree: Node, location: Iterable[str]) -> int:
    """The line of the deepest key of `location` that stands in the file."""
    line = tree.start_mark.line if isinstance(tree, MappingNode) and not tree.value else 0
    for part in location:
        pairs = tree.value if isinstance(tree, MappingNode) else []
        found = next(((key, value) for key, value in pairs if key.value == part), None)
        if found is None:
            break
        line, tree = found[0].start_mark.line, found[1]
    return int(line) + 1


def _keys_beside(location: list[str]) -> list[str]:
    """The keys that the section of `location` knows."""
    model: type[BaseModel] = Settings
    for part in location[:-1]:
        if part not in model.model_fields:
            continue  # the name of a destination
        annotation = model.model_fields[part].annotation
        candidates = [annotation, *get_args(annotation)]
        model = next((c for c in candidates if isinstance(c, type) and issubclass(c, Section)), model)
    return list(model.model_fields)


def _near(name: str, known: Iterable[str], otherwise: str) -> str:
    # Without what they all share, which would make any two variables look alike.
    bare = {other.removeprefix(PREFIX): other for other in known}
    close = difflib.get_close_matches(name.removeprefix(PREFIX), bare, n=1)
    return f"; did you mean {bare[close[0]]}?" if close else f"; {otherwise}"


# A pod gets these for every Service of its namespace, so also for one that is named order-sync.
_SERVICE_LINK = re.compile(r"ORDER_SYNC_(\w+_)?(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT(_\d+_(TCP|UDP|SCTP)(_\w+)?)?)")


def _refuse_unknown_variables(settings: Settings, environ: Mapping[str, str]) -> None:
    known = {f"{PREFIX}CONFIG"}
    for _, secret in settings.secrets():
        known |= {secret.name, f"{secret.name}_FILE"}
    ours = (name for name in environ if name.startswith(PREFIX) and not name.startswith(f"{PREFIX}TEST_"))
    if unknown := sorted(name for name in ours if name not in known and not _SERVICE_LINK.fullmatch(name)):
        cure = "unset it, or name it in the settings file"
        raise SettingsError(
            "\n".join(
                f"environment: {name}: the settings do not name it{_near(name, sorted(known), cure)}"
                for name in unknown
            )
        )
