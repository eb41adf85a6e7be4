"""Run: the daemon itself, and its schema."""

from __future__ import annotations

from dataclasses import asdict
from enum import StrEnum
from typing import Annotated

import typer

from daemon.cli.connector import print_part, state_role
from daemon.cli.context import ConfigOption, mapping_from, settings_from
from daemon.cli.mend import who
from daemon.cli.output import print_line
from daemon.contract.state import run_time_part
from daemon.errors import SettingsError
from daemon.operate.logs import configure_logs
from daemon.state.migrate import migrate as migrate_schema
from daemon.state.structure import Release, claim_mapping


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


def _release(text: str) -> Release:
    name, _, revision = text.rpartition(":")
    if not name or not revision.isdecimal():
        raise SettingsError(f"--release {text!r}: must be NAME:REVISION, such as shop:3")
    return Release(name, int(revision), who())


def migrate(
    config: ConfigOption = None,
    release: Annotated[
        str | None,
        typer.Option(
            "--release",
            metavar="NAME:REVISION",
            help="What is deployed, where every pod runs this first: an older mapping comes back in force the first "
            "time that a revision is met, not when a pod of an earlier revision starts late.",
        ),
    ] = None,
    print_grants: Annotated[
        bool,
        typer.Option(
            "--print-grants",
            help="Change nothing; print what the user of postgres.dsn needs where another role migrates.",
        ),
    ] = False,
) -> None:
    """Bring the database's schema up to this program's version and put this mapping in force.

    Safe from several replicas at once. Daemons that run with another mapping end at their next transaction.
    """
    settings = settings_from(config)
    if print_grants:
        print_part(asdict(run_time_part(role=state_role(settings), schema=settings.postgres.schema_name)))
        return
    mapping = mapping_from(settings)
    deployed = None if release is None else _release(release)
    done = migrate_schema(settings.postgres)
    claim_mapping(settings.postgres, mapping.version, mapping.structure, by_hand=deployed is None, release=deployed)
    where = f"schema {settings.postgres.schema_name}"
    if done:
        print_line(f"{where}: applied {', '.join(str(number) for number in done)}")
    else:
        print_line(f"{where}: nothing to do")
