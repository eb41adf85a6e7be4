"""A share of the seeds that `make simulate` runs, and what the simulation promises about itself."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from daemon.demo.stack import PostgresAt
from simulation.climate import Fault, Style, climate_of
from simulation.postgres import template
from simulation.runner import ENOUGH_WORLDS, missing_faults, run_memory, run_postgres
from simulation.world import Verdict, World

TESTS = Path(__file__).resolve().parent.parent


def told(verdict: Verdict) -> str:
    """What a failing seed broke, and how to see it."""
    replay = f"replay: make simulate SEEDS=1 SEED_START={verdict.seed} TRACE=1"
    return "\n".join([*verdict.violations, replay])


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the mappings of all worlds are written."""
    return tmp_path_factory.mktemp("mappings")


@pytest.fixture(scope="module")
def clocked(postgres_server: PostgresAt) -> Iterator[str]:
    """A database with the world's clocks, to clone."""
    with template(postgres_server) as name:
        yield name


@pytest.mark.parametrize("seed", range(20))
def test_world_on_memory_keeps_every_promise(seed: int, directory: Path) -> None:
    """P2 to P7 and P9, through storms of everything that the seed asks for."""
    verdict = run_memory(seed, directory)
    assert not verdict.violations, told(verdict)


@pytest.mark.postgres
@pytest.mark.parametrize("seed", [2, 5])
def test_world_on_postgres_keeps_every_promise(
    seed: int, directory: Path, postgres_server: PostgresAt, clocked: str
) -> None:
    """The same with the daemon's own statements, under the world's clock: processes and state go wrong."""
    verdict = run_postgres(seed, directory, postgres_server, clocked)
    assert not verdict.violations, told(verdict)


@pytest.mark.parametrize("seed", [1, 2])
def test_seed_replays_exactly(seed: int) -> None:
    """Two processes that order their sets differently tell the same story of a seed, to the last line."""

    def story(hash_seed: str) -> list[str]:
        command = [
            sys.executable,
            "-m",
            "simulation",
            "--seeds",
            "1",
            "--start",
            str(seed),
            "--postgres",
            "0",
            "--trace",
        ]
        done = subprocess.run(
            command,
            cwd=TESTS,
            env=os.environ | {"PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=True,
        )
        return [line for line in done.stdout.splitlines() if not line.startswith("took ")]

    first = story("1")
    assert len(first) > 100
    assert first == story("2")
    assert first[-1] == "simulate: 1 seeds, 0 violations"


def test_fault_that_is_asked_for_and_never_happens_is_a_violation() -> None:
    """A run whose worlds ask for a fault in vain has not tested it."""
    climate = climate_of(0)
    silent = Verdict(0, climate, (), {}, {}, 0.0, ())
    loud = Verdict(0, climate, (), dict.fromkeys(climate.asked, 1), {}, 0.0, ())
    assert any(str(Fault.CANCELLED) in text for text in missing_faults([silent] * ENOUGH_WORLDS))
    assert missing_faults([silent] * ENOUGH_WORLDS + [loud]) == []


def test_applied_beyond_vendor_settle_is_detected(directory: Path) -> None:
    """Where the assumption about the vendor does not hold, stale documents may stand: reconcile reports every one."""
    verdicts = [run_memory(seed, directory) for seed in (9, 19, 29)]
    assert {verdict.climate.style for verdict in verdicts} == {Style.BEYOND}
    assert not any(verdict.violations for verdict in verdicts)
    assert sum(verdict.counts.get("stale beyond vendor_settle", 0) for verdict in verdicts) > 0


def test_reconcile_that_sees_nothing_is_found_out(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the test above holds is not held by chance."""
    monkeypatch.setattr("simulation.oracle.compare", lambda *_: None)
    violations = [text for seed in (9, 19, 29) for text in run_memory(seed, directory).violations]
    assert violations
    assert all("reconcile does not see it" in text for text in violations)


def test_restored_state_converges(directory: Path) -> None:
    """The state goes back to an older copy, and ingest reads again what came since: the vendor ends with the truth."""
    verdicts = [World(climate_of(seed, restore=True), directory).play() for seed in range(2, 102, 10)]
    assert all(verdict.happened.get(Fault.RESTORED) for verdict in verdicts)
    assert [told(verdict) for verdict in verdicts if verdict.violations] == []
