"""Run: the daemon itself, and its schema."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from daemon.cli.context import ConfigOption, mapping_from, settings_from
from daemon.cli.output import print_line
from daemon.operate.logs import configure_logs
from daemon.state.migrate import migrate as migrate_schema
from daemon.state.structure import claim_mapping


class Role(StrEnum):
    """Which loops this process runs."""

    INGEST = "ingest"
    DELIVER = "deliver"
    BOTH = "both"


def run(
    config: ConfigOption = None,
    role: Annotated[Role, typer.Option("--role", help="Which loops this process runs.")] = Role.BOTH,
    until_caught_up: Annotated[
        bool,
        typer.Option(
            "--until-caught-up",
            help="End once all that was in Kafka at the start is folded and every due order accepted: "
            "0 if so, 3 if orders remain that wait, are held or quarantined, 1 otherwise.",
        ),
    ] = False,
) -> None:
    """Keep the orders in step until SIGTERM or Ctrl-C."""
    from daemon.app import run as run_daemon  # the loops and their libraries; no other command needs them

    settings = settings_from(config)
    mapping = mapping_from(settings)
    configure_logs(settings.operate.log_format, settings.operate.log_level)
    raise typer.Exit(run_daemon(settings, mapping, role.value, until_caught_up))


def migrate(config: ConfigOption = None) -> None:
    """Bring the database's schema up to this program's version and put this mapping in force.

    Safe from several replicas at once. Daemons that run with another mapping end at their next transaction.
    """
    settings = settings_from(config)
    mapping = mapping_from(settings)
    done = migrate_schema(settings.postgres)
    claim_mapping(settings.postgres, mapping.version, mapping.structure, by_hand=True)
    where = f"schema {settings.postgres.schema_name}"
    if done:
        print_line(f"{where}: applied {', '.join(str(number) for number in done)}")
    else:
        print_line(f"{where}: nothing to do")
