"""The command: `python -m recorder NAME... [--into DIRECTORY]`; without a name it lists what there is to record."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from fixtures.maven import UnavailableError
from recorder.record import record
from recorder.recordings import RECORDINGS

from daemon.demo.process import RigError

TESTS = Path(__file__).parents[1]


def main() -> int:
    """Record what is asked for; 1 where the rig fails."""
    parser = argparse.ArgumentParser(prog="recorder", description="Record corpora from real connectors.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(RECORDINGS))
    parser.add_argument("--into", type=Path, help="the directory to write to (default: tests/corpora, or tests/shops)")
    arguments = parser.parse_args()
    if unknown := set(arguments.names) - RECORDINGS.keys():
        parser.error(f"no recording is called {', '.join(sorted(unknown))}; there are {', '.join(RECORDINGS)}")
    for name in arguments.names or ():
        try:
            _record(name, arguments.into or TESTS / ("shops" if RECORDINGS[name].oms else "corpora"))
        except (RigError, UnavailableError) as error:
            print(f"{name}: {error}", file=sys.stderr)
            return 1
    if not arguments.names:
        print("\n".join(RECORDINGS))
    return 0


def _record(name: str, into: Path) -> None:
    counts = record(RECORDINGS[name], into, note=lambda step: print(f"{name}: {step}"))
    size = (into / f"{name}.jsonl.xz").stat().st_size
    print(f"{name}: {counts.total()} messages, {size} bytes")
    for topic, count in sorted(counts.items()):
        print(f"  {count:5} {topic}")


sys.exit(main())
