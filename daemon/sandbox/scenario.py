"""A scenario file: switches and faults that the sandbox has from its start. YAML, of which JSON is a part.

The keys of the file are the switches of `options.SandboxOptions`; `config/sandbox.yaml` shows them all.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from daemon.errors import SettingsError
from daemon.sandbox.options import ApiKey, SandboxOptions
from daemon.sandbox.vendor import problems_of

_OPTIONS: TypeAdapter[SandboxOptions] = TypeAdapter(SandboxOptions)


def load_scenario(path: Path, otherwise: ApiKey) -> SandboxOptions:
    """The options of a scenario; `otherwise` is let in where the file names no `keys`.

    Raises SettingsError naming the file and every switch or fault that is wrong.
    """
    try:
        found: Any = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"{path}: cannot be read: {error.strerror}; mend --scenario") from error
    except (UnicodeDecodeError, YAMLError) as error:
        raise SettingsError(f"{path}: is no YAML: {' '.join(str(error).split())}") from error
    if found is None:
        found = {}
    if not isinstance(found, dict):
        raise SettingsError(f"{path}: must be a table of switches, see config/sandbox.yaml")
    try:
        return _OPTIONS.validate_python({"keys": (otherwise,)} | found)
    except ValidationError as error:
        raise SettingsError(f"{path}: {problems_of(error)}; see config/sandbox.yaml") from error
