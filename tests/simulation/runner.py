"""Runs seeds and tells of them: `python -m simulation --seeds 500 --start 0`.

The last line is the verdict. A seed that fails prints what it broke, the story of that, and how to see all of it.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from functools import partial
from itertools import pairwise
from pathlib import Path

from daemon.demo.stack import PostgresAt
from simulation.climate import Fault, climate_of
from simulation.postgres import PostgresState, served, template
from simulation.world import Verdict, World

POSTGRES_SHARE = 25
"""One of so many seeds runs on Postgres as well."""

POSTGRES_SCALE = 0.5
"""Of the storms of a world on Postgres: it takes real time."""

STORY_LINES = 40
ENOUGH_WORLDS = 20
"""A fault that so many worlds ask for has to happen in one of them."""

Say = Callable[[str], None]


def run_memory(seed: int, directory: Path, *, traced: bool = False, scale: float = 1.0) -> Verdict:
    """One world on the memory store."""
    return World(climate_of(seed, scale=scale), directory, traced=traced).play()


def missing_faults(verdicts: Iterable[Verdict]) -> list[str]:
    """Violations of the whole run: faults that worlds asked for and that never happened."""
    asked: Counter[Fault] = Counter()
    happened: Counter[Fault] = Counter()
    for verdict in verdicts:
        asked.update(verdict.climate.asked)
        happened.update(verdict.happened)
    return [
        f"faults: {worlds} worlds asked for `{fault}`, which never happened"
        for fault, worlds in sorted(asked.items())
        if worlds >= ENOUGH_WORLDS and not happened[fault]
    ]


def story(verdict: Verdict) -> list[str]:
    """The last lines of the trace that have to do with the first violation."""
    at = next((number for number, line in enumerate(verdict.trace) if "VIOLATION" in line), len(verdict.trace))
    words = verdict.trace[at].replace(":", " ").replace(";", " ").split() if at < len(verdict.trace) else []
    keys = {word.removeprefix("A-") for word in words if word.startswith("A-")}
    keys |= {after for before, after in pairwise(words) if before == "order"}
    wanted = [line for line in verdict.trace[: at + 1] if not keys or _names(line, keys)]
    return wanted[-STORY_LINES:]


def _names(line: str, keys: set[str]) -> bool:
    words = {word.strip(",:").removeprefix("A-") for word in line.split()[1:]}
    return bool(words & keys) or "calm" in words or "storm" in words


def summary(verdicts: list[Verdict], say: Say) -> None:
    """How often each fault occurred, and what else was counted."""
    happened: Counter[str] = Counter()
    asked: Counter[str] = Counter()
    counts: Counter[str] = Counter()
    for verdict in verdicts:
        happened.update({str(fault): count for fault, count in verdict.happened.items()})
        asked.update(str(fault) for fault in verdict.climate.asked)
        counts.update(verdict.counts)
    say(f"{'times':>8}  {'worlds':>6}  fault")
    for fault in sorted(asked | happened):
        say(f"{happened[fault]:>8}  {asked[fault]:>6}  {fault}")
    say(", ".join(f"{count} {what}" for what, count in sorted(counts.items())))


def main(arguments: list[str] | None = None) -> int:
    """Run what is asked for; the exit status."""
    parser = argparse.ArgumentParser(prog="simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=500, help="seeds on the memory store")
    parser.add_argument("--start", type=int, default=0, help="the first seed")
    parser.add_argument("--postgres", type=int, help=f"seeds on Postgres (1 of {POSTGRES_SHARE} unless told)")
    parser.add_argument("--trace", action="store_true", help="tell the whole story of every seed")
    asked = parser.parse_args(arguments)
    postgres = asked.seeds // POSTGRES_SHARE if asked.postgres is None else asked.postgres
    verdicts: list[Verdict] = []
    began = time.monotonic()
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        seeds = range(asked.start, asked.start + asked.seeds)
        pool = stack.enter_context(ProcessPoolExecutor(1 if asked.trace else os.cpu_count()))
        on_memory = pool.map(partial(run_memory, directory=directory, traced=asked.trace), seeds)  # runs from here on
        if postgres:
            verdicts += _on_postgres(stack, range(asked.start, asked.start + postgres), directory, asked.trace)
        for verdict in on_memory:
            if verdict.violations and not asked.trace:
                verdict = run_memory(verdict.seed, directory, traced=True)
            verdicts.append(verdict)
            _tell(verdict, asked.trace, f"make simulate SEEDS=1 SEED_START={verdict.seed} TRACE=1")
    missing = missing_faults(verdicts)
    summary(verdicts, print)
    for text in missing:
        print(text)
    violations = sum(len(verdict.violations) for verdict in verdicts) + len(missing)
    print(f"took {time.monotonic() - began:.0f} s")
    print(f"simulate: {len(verdicts)} seeds, {violations} violations")
    return 1 if violations else 0


def _on_postgres(stack: ExitStack, seeds: range, directory: Path, trace: bool) -> list[Verdict]:
    server = stack.enter_context(served())
    name = stack.enter_context(template(server))
    verdicts = []
    for seed in seeds:
        verdict = run_postgres(seed, directory, server, name, traced=True)
        verdicts.append(verdict)
        _tell(verdict, trace, f"make simulate SEEDS=0 POSTGRES=1 SEED_START={seed} TRACE=1")
    print(f"postgres: {len(seeds)} seeds", flush=True)
    return verdicts


def run_postgres(seed: int, directory: Path, server: PostgresAt, cloned: str, *, traced: bool = False) -> Verdict:
    """One world on Postgres."""
    climate = climate_of(seed, scale=POSTGRES_SCALE)
    world = World(climate, directory, traced=traced, state_of=lambda now: PostgresState(climate, now, server, cloned))
    try:
        return world.play()
    finally:
        world.state.close()


def _tell(verdict: Verdict, trace: bool, replay: str) -> None:
    if trace:
        print("\n".join(verdict.trace))
    if verdict.violations:
        print(f"seed {verdict.seed} ({verdict.climate.style}):")
        for text in verdict.violations[:5]:
            print(f"  {text}")
        if not trace:
            print("\n".join(f"    {line}" for line in story(verdict)))
        print(f"  replay: {replay}", flush=True)
