"""Two revisions in turn: `python bench/compare.py BASE [FIGURE...]`, so that a loss larger than the noise is seen.

Both are measured by this revision's bench, each in a process of its own that imports its own daemon, five times in
turn. A rate has got worse where the best of the present runs is below the worst of the base's. The exit status is 1
then.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.table import Table

HERE = Path(__file__).parent
ROOT = HERE.parent
ROUNDS = 5
FIGURES = ("decode", "fold", "assemble")


def main() -> int:
    """The command."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("base", metavar="BASE", help="a revision that has this bench")
    arguments.add_argument("figures", nargs="*", metavar="FIGURE", default=FIGURES)
    chosen = arguments.parse_args()
    console = Console()
    rates: dict[str, tuple[list[float], list[float]]] = {}
    with tempfile.TemporaryDirectory(prefix="order-sync-base-") as directory:
        base = Path(directory) / "base"
        subprocess.run(["git", "worktree", "add", "--quiet", "--detach", base, chosen.base], cwd=ROOT, check=True)
        try:
            for turn in range(1, ROUNDS + 1):
                for side, tree in enumerate((base, ROOT)):
                    console.print(f"round {turn} of {ROUNDS}: {('base', 'present')[side]}")
                    for name, rate in _measured(tree, Path(directory), chosen.figures).items():
                        rates.setdefault(name, ([], []))[side].append(rate)
        finally:
            subprocess.run(["git", "worktree", "remove", "--force", base], cwd=ROOT, check=True)
    table = Table("", chosen.base, "present", "ratio", "")
    worse = False
    for name, (before, now) in rates.items():
        lost = bool(before and now) and max(now) < min(before)
        worse = worse or lost
        told = [f"{statistics.median(side):,.0f} ({min(side):,.0f} to {max(side):,.0f})" for side in (before, now)]
        ratio = statistics.median(now) / statistics.median(before)
        table.add_row(name, *told, f"{ratio:.2f}", "WORSE" if lost else "")
    console.print(table)
    return int(worse)


def _measured(tree: Path, directory: Path, figures: tuple[str, ...]) -> dict[str, float]:
    """The rates of one run, in units a second, by figure."""
    results = directory / "results.json"
    command = [sys.executable, HERE, *figures, "--rounds", "1", "--json", results]
    path = os.pathsep.join(str(one) for one in (tree, ROOT / "tests"))
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"the bench of {tree} failed:\n{done.stderr[-3000:]}")
    content = json.loads(results.read_text(encoding="utf-8"))
    return {one["figure"]: one["value"] for one in content["figures"] if one["unit"].endswith("/s")}


if __name__ == "__main__":
    sys.exit(main())
