"""The command as a process of its own: exit codes, streams, signals, missing extras."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest
from ruamel.yaml import YAML

MAIN = [sys.executable, "-m", "daemon"]
GROUPS = {"Run": ["run", "migrate", "connector"], "Look": ["check", "status", "show", "rows", "sources"]}
GROUPS["Look"] += ["plan", "actions"]
GROUPS |= {"Steer": ["pause", "resume", "backfill", "guard"]}
GROUPS |= {"Mend": ["rejects", "quarantine", "resend", "reconcile", "position", "rebuild", "ghosts", "erase"]}
GROUPS |= {"Try": ["uat", "sandbox", "demo"]}


def environment(**more: str) -> dict[str, str]:
    """Ours without variables that a developer may have set."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("ORDER_SYNC_")}
    return clean | {"COLUMNS": "120"} | more


def run(*arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run(
        [*MAIN, *arguments], env=environment(**more), capture_output=True, text=True, timeout=60, check=False
    )


def test_help_groups_the_commands() -> None:
    """Every command is in the help, under the heading of what a person wants, in this order."""
    text = run("--help").stdout
    places = [text.index(f"─ {group} ") for group in GROUPS]
    assert places == sorted(places)
    for place, end, commands in zip(places, [*places[1:], len(text)], GROUPS.values(), strict=True):
        found = [
            line.split()[1] for line in text[place:end].splitlines()[1:] if line.startswith("│ ") and line[2] != " "
        ]
        assert found == commands


@pytest.mark.parametrize("command", [command for commands in GROUPS.values() for command in commands])
def test_every_command_explains_itself(command: str) -> None:
    """--help works without any settings file."""
    ran = run(command, "--help")
    assert (ran.returncode, ran.stderr) == (0, "")


def test_a_refusal_is_one_line_and_exit_code_2(tmp_path: Path) -> None:
    """No traceback; standard output stays empty."""
    ran = run("status", "--config", str(tmp_path / "none.yaml"))
    assert (ran.returncode, ran.stdout) == (2, "")
    assert ran.stderr.startswith("error: ")
    assert len(ran.stderr.splitlines()) == 1


def test_the_variable_names_the_settings_file_and_the_option_beats_it(tmp_path: Path) -> None:
    """ORDER_SYNC_CONFIG; the option before or after the command is nearer."""
    named = str(tmp_path / "named.yaml")
    assert "named.yaml: cannot be read" in run("status", ORDER_SYNC_CONFIG=named).stderr
    for arguments in (["--config", "other.yaml", "status"], ["status", "--config", "other.yaml"]):
        assert "other.yaml: cannot be read" in run(*arguments, ORDER_SYNC_CONFIG=named).stderr


@pytest.mark.parametrize(
    ("command", "library", "extra"), [("sandbox", "uvicorn", "sandbox"), ("demo", "uvicorn", "demo")]
)
def test_a_missing_extra_names_the_install_command(command: str, library: str, extra: str) -> None:
    """The daemon itself needs neither; the cure is a line to copy."""
    code = f"import sys; sys.modules[{library!r}] = None; sys.argv = ['order-sync', {command!r}]\n"
    code += "from daemon.cli.main import main; main()"
    ran = subprocess.run(
        [sys.executable, "-c", code], env=environment(), capture_output=True, text=True, timeout=60, check=False
    )
    assert ran.returncode == 2
    assert ran.stderr == (f"error: {library} is not installed; pip install 'northbeam-order-sync[{extra}]' brings it\n")


def test_sandbox_refuses_a_wrong_scenario(tmp_path: Path) -> None:
    """Before it listens, with the place of the mistake."""
    path = tmp_path / "scenario.yaml"
    path.write_text("budget_bytes: 0\n")
    ran = run("sandbox", "--scenario", str(path))
    assert (ran.returncode, ran.stdout) == (2, "")
    assert ran.stderr.startswith(f"error: {path}: budget_bytes: ")


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM])
def test_sandbox_serves_until_a_signal(end: signal.Signals) -> None:
    """It says where it listens, lets in the key it was given, and ends in order."""
    child = subprocess.Popen(
        [*MAIN, "sandbox", "--port", "0", "--key", "k", "--client-id", "c"],
        env=environment(PYTHONUNBUFFERED="1"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert child.stdout is not None
        line = child.stdout.readline()
        url = line.split()[2]
        days = {"start_date": "2026-01-01", "end_date": "2026-01-02"}
        answers = [
            httpx.get(
                f"{url}/v2/orders", params=days, headers={"Authorization": key, "Data-Client-ID": "c"}
            ).status_code
            for key in ("k", "wrong")
        ]
        child.send_signal(end)
        _, errors = child.communicate(timeout=20)
    finally:
        child.kill()
        child.wait()
    assert answers == [200, 401]
    assert (child.returncode, errors) == (0, "")


@pytest.fixture
def project(tmp_path: Path, database: Any) -> Iterator[str]:
    """A settings file over a migrated database with many rows."""
    path = tmp_path / "order-sync.yaml"
    sections = {
        "mapping": "m.yaml",
        "postgres": {"dsn": database.settings.dsn},
        "destinations": {"main": {"client_id": "c"}},
    }
    YAML(typ="safe", pure=True).dump(sections, path)
    with closing(database.connect()) as connection:
        connection.execute("insert into order_sync.source (name) values ('orders')")
        connection.execute(
            'insert into order_sync.source_row (source, key, origin, "offset", columns)'
            " select 1, n::text, 1, n, '{}' from generate_series(1, 5000) n"
        )
    return str(path)


def test_a_reader_that_has_seen_enough_gets_no_traceback(project: str) -> None:
    """`order-sync rows orders | head -1` ends quietly."""
    child = subprocess.Popen(
        [*MAIN, "rows", "orders", "--config", project],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    assert child.stderr is not None
    child.stdout.readline()
    child.stdout.close()
    errors = child.stderr.read()
    child.stderr.close()
    assert child.wait(30) == 1
    assert errors == ""
