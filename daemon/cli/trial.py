"""Try: the stand-in of the Orders API, and everything at once on one machine. Both need an extra."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from daemon.cli.output import print_line
from daemon.errors import SettingsError


@contextmanager
def _extra(name: str) -> Iterator[None]:
    """Turns a missing library into the command that installs it; a missing module of our own stays an error."""
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] == "daemon":
            raise
        raise SettingsError(
            f"{error.name} is not installed; pip install 'northbeam-order-sync[{name}]' brings it"
        ) from error


def sandbox(
    host: Annotated[str, typer.Option("--host", help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="Port; 0 takes a free one.")] = 8765,
    key: Annotated[str, typer.Option("--key", help="The API key that is let in.")] = "sandbox-key",
    client_id: Annotated[str, typer.Option("--client-id", help="The client id it belongs to.")] = "sandbox-client",
    scenario: Annotated[
        Path | None,
        typer.Option("--scenario", help="Its switches and faults (config/sandbox.yaml).", show_default=False),
    ] = None,
) -> None:
    """Stand in for the Orders API until Ctrl-C: checks each order by the published contract and keeps every version."""
    with _extra("sandbox"):
        from daemon.sandbox.options import ApiKey, SandboxOptions
        from daemon.sandbox.scenario import load_scenario
        from daemon.sandbox.server import serve

    pair = ApiKey(key, client_id)
    options = SandboxOptions(keys=(pair,)) if scenario is None else load_scenario(scenario, pair)

    def started(url: str) -> None:
        known = ", ".join(one.client_id for one in options.keys) or "any client"
        print_line(f"listening on {url} for client id {known}; Ctrl-C ends it")

    try:
        serve(host, port, options, started)
    except OSError as error:
        raise SettingsError(
            f"cannot listen on {host}:{port}: {error.strerror}; choose another --host or --port"
        ) from error


def demo(
    duration: Annotated[
        float | None, typer.Option("--duration", min=1, help="Seconds of trade; without it until Ctrl-C.")
    ] = None,
    sabotage: Annotated[
        bool, typer.Option("--sabotage", help="Flip one field at the API: the comparison must find it, and exit 1.")
    ] = False,
) -> None:
    """A shop, Debezium, Kafka, Postgres, the API's stand-in and the daemon, live in this terminal."""
    with _extra("demo"):
        from daemon.demo.demo import run_demo
    raise typer.Exit(run_demo(duration=duration, sabotage=sabotage))
