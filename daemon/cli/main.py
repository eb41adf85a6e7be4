"""`order-sync`: the commands, grouped by what a person wants, and the exit codes.

0 done, or nothing wrong · 1 failed, or what was asked for found something wrong · 2 refused: a person has to change
something first · 3 `run --until-caught-up` left orders that only wait, are held, parked or quarantined · 130
interrupted.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from typer.core import TyperGroup

from daemon import __version__
from daemon.cli import (
    check,
    connector,
    erase,
    look,
    mend,
    plan,
    position,
    rebuild,
    reconcile,
    resend,
    run,
    show,
    steer,
    trial,
    uat,
)
from daemon.cli.context import DEFAULT_CONFIG, program_config
from daemon.errors import OrderSyncError, RefuseToStart


class InOurOrder(TyperGroup):
    """Lists the commands as they stand here; typer would put those with sub-commands last."""

    def list_commands(self, _: typer.Context) -> list[str]:  # type: ignore[override]  # the parent's own context type
        return list(PANELS)


app = typer.Typer(
    name="order-sync",
    cls=InOurOrder,
    help="Keeps Northbeam's orders equal to the orders of your OMS.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def program(
    config: Annotated[
        Path, typer.Option("--config", "-c", envvar="ORDER_SYNC_CONFIG", help="The settings file.")
    ] = DEFAULT_CONFIG,
    version: Annotated[  # noqa: ARG001 - its callback does the work
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and end.")
    ] = False,
) -> None:
    """Options that every command shares."""
    program_config.set(config)


RUN, LOOK, STEER, MEND, TRY = "Run", "Look", "Steer", "Mend", "Try"
PANELS = {
    "run": RUN,
    "migrate": RUN,
    "connector": RUN,
    "check": LOOK,
    "status": LOOK,
    "show": LOOK,
    "rows": LOOK,
    "sources": LOOK,
    "plan": LOOK,
    "actions": LOOK,
    "pause": STEER,
    "resume": STEER,
    "backfill": STEER,
    "guard": STEER,
    "rejects": MEND,
    "quarantine": MEND,
    "resend": MEND,
    "reconcile": MEND,
    "position": MEND,
    "rebuild": MEND,
    "ghosts": MEND,
    "erase": MEND,
    "uat": TRY,
    "sandbox": TRY,
    "demo": TRY,
}

for command in (
    run.run,
    run.migrate,
    connector.connector,
    check.check,
    look.status,
    show.show,
    look.rows,
    look.sources,
    plan.plan,
    resend.resend,
    reconcile.reconcile,
    steer.actions,
    steer.pause,
    steer.resume,
    steer.backfill,
    rebuild.rebuild,
    erase.erase,
):
    app.command(command.__name__, rich_help_panel=PANELS[command.__name__])(command)
app.add_typer(steer.guard, name="guard", rich_help_panel=STEER)
app.add_typer(mend.rejects, name="rejects", rich_help_panel=MEND)
app.add_typer(mend.quarantine, name="quarantine", rich_help_panel=MEND)
app.add_typer(position.position, name="position", rich_help_panel=MEND)
app.add_typer(rebuild.ghosts, name="ghosts", rich_help_panel=MEND)
app.command("uat", rich_help_panel=TRY)(uat.uat)
app.command("sandbox", rich_help_panel=TRY)(trial.sandbox)
app.command("demo", rich_help_panel=TRY)(trial.demo)


def main() -> None:
    """The program. Ends the process with one of the exit codes above."""
    try:
        app()
    except OrderSyncError as error:
        for line in str(error).splitlines():
            sys.stderr.write(f"error: {line}\n")
        sys.exit(2 if isinstance(error, RefuseToStart) else 1)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:  # the reader of our output (head, less) has seen enough
        sys.stderr.close()
        sys.exit(1)
