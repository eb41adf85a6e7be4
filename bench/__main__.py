"""Takes figures and says where they stand: `python bench [--full] [--json FILE] [FIGURE...]`.

A figure that was not taken (a part is missing) says why. The exit status is 0 also where a figure is below what is
wanted: a machine under load is no broken program. `compare.py` runs two revisions in turn.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rig import GLANCE, HERE, HOUR, MINUTES, Figure, machine

from daemon.errors import OrderSyncError
from daemon.operate.logs import configure_logs

MINUTES_LONG = ("decode", "fold", "assemble", "deliver", "freshness")
FIGURES = (*MINUTES_LONG, "peers", "jdbc_sink", "scale", "processes", "ready")


def table_of(figures: list[Figure], title: str) -> Table:
    """For people."""
    table = Table("", "median", "min to max", "compared", "wanted", "", title=title)
    for figure in figures:
        low, high = min(figure.values), max(figure.values)
        ratio = "" if figure.ratio is None else f"{figure.ratio:.2f} of {figure.to}"
        mark = {True: "holds", False: "LOSES", None: ""}[figure.holds]
        median = f"{figure.value:,.4g}" if abs(figure.value) < 100 else f"{figure.value:,.0f}"
        table.add_row(figure.name, f"{median} {figure.unit}", f"{low:,.4g} to {high:,.4g}", ratio, figure.wanted, mark)
    return table


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(one) for one in text.split(","))


def main() -> None:
    """The command."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("figures", nargs="*", metavar="FIGURE", help=f"of {', '.join(FIGURES)}")
    arguments.add_argument("--full", action="store_true", help="all figures, in sizes that take an hour")
    arguments.add_argument("--glance", action="store_true", help="sizes that show only that it works")
    arguments.add_argument("--rounds", type=int, help="of everything that is compared")
    arguments.add_argument("--state", type=_numbers, metavar="N,N", help="orders in the state, for `scale`")
    arguments.add_argument("--json", type=Path, default=HERE / "results.json")
    chosen = arguments.parse_args()
    if unknown := set(chosen.figures) - set(FIGURES):
        arguments.error(f"{', '.join(sorted(unknown))}: no such figure; there are {', '.join(FIGURES)}")
    configure_logs("console", "error")
    size = HOUR if chosen.full else GLANCE if chosen.glance else MINUTES
    size = replace(size, rounds=chosen.rounds or size.rounds, state=chosen.state or size.state)
    told, taken, missing = machine(), [], {}
    console = Console()
    for name in chosen.figures or (FIGURES if chosen.full else MINUTES_LONG):
        console.print(f"{name} ...")
        try:
            figures: list[Figure] = importlib.import_module(name).measure(size)
        except OrderSyncError as error:
            missing[name] = str(error)
            console.print(f"{name} was not taken: {error}", markup=False)
            continue
        console.print(table_of(figures, name))
        for figure in figures:
            if figure.note:
                console.print(f"  {figure.name}: {figure.note}", markup=False)
        taken += figures
    content = {"machine": told, "figures": [figure.record() for figure in taken], "not_taken": missing}
    chosen.json.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    if losing := [figure.name for figure in taken if figure.holds is False]:
        console.print(f"below what is wanted: {', '.join(losing)}")


if __name__ == "__main__":
    sys.exit(main())
