"""What every command takes: the settings file, and whether people or scripts read the output."""

from __future__ import annotations

from contextvars import ContextVar
from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from daemon.errors import MappingError, SettingsError
from daemon.mapping.loader import load_mapping
from daemon.mapping.model import Mapping, check_destinations
from daemon.settings import Settings
from daemon.settings_file import load_settings

DEFAULT_CONFIG = Path("order-sync.yaml")

program_config: ContextVar[Path] = ContextVar("program_config", default=DEFAULT_CONFIG)
"""The option of the program itself, set before a command runs."""

# ORDER_SYNC_CONFIG is read by the option of the program itself (main.py): either option on the command line beats it.
ConfigOption: TypeAlias = Annotated[
    Path | None, typer.Option("--config", "-c", help="The settings file.", show_default=False)
]
JsonOption: TypeAlias = Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")]
DestinationOption: TypeAlias = Annotated[
    str | None, typer.Option("--destination", help="One destination of the settings.", show_default=False)
]
RevealOption: TypeAlias = Annotated[
    bool, typer.Option("--reveal", help="Show personal values (names, addresses, mail, phone, IP) too.")
]
LimitOption: TypeAlias = Annotated[int, typer.Option("--limit", min=1, help="At most so many.")]


def config_path(config: Path | None) -> Path:
    """The settings file: the command's own option, else the program's, which also reads ORDER_SYNC_CONFIG."""
    if config is not None:
        return config
    return program_config.get()


def settings_from(config: Path | None) -> Settings:
    """The settings. Raises SettingsError."""
    return load_settings(config_path(config))


def mapping_from(settings: Settings, path: Path | None = None) -> Mapping:
    """The mapping that the settings name, or the one at `path`; it fits their destinations. Raises MappingError."""
    mapping = load_mapping(path or settings.mapping)
    if problems := check_destinations(mapping, settings.destinations):
        raise MappingError(problems)
    return mapping


def destinations_from(settings: Settings, name: str | None) -> list[str]:
    """The destination of this name, or all where none is named. Raises SettingsError for one that is not there."""
    if name is None:
        return sorted(settings.destinations)
    if name not in settings.destinations:
        known = ", ".join(sorted(settings.destinations))
        raise SettingsError(f"--destination {name}: the settings have no such destination; they have {known}")
    return [name]


def destination_from(settings: Settings, name: str | None) -> str:
    """The destination of this name, or the only one. Raises SettingsError."""
    named = destinations_from(settings, name)
    if len(named) > 1:
        raise SettingsError(f"there are several destinations: give --destination, one of {', '.join(named)}")
    return named[0]
