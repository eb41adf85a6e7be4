"""The demo from end to end, as a person would run it and end it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest


def _processes_naming(text: str) -> list[str]:
    """The command lines of running processes that contain `text`."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if text in line:
            found.append(line)
    return found


@pytest.mark.debezium
@pytest.mark.postgres
@pytest.mark.kafka
def test_ctrl_c_ends_the_demo_and_sabotage_is_the_only_difference(tmp_path: Path) -> None:
    """Ctrl-C ends the trade; all orders agree but for the one field that was flipped; nothing is left behind."""
    temporary = tmp_path / "order-sync-temporary"
    temporary.mkdir()
    demo = subprocess.Popen(
        [sys.executable, "-m", "daemon", "demo", "--sabotage"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "TMPDIR": str(temporary), "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    try:
        assert demo.stdout is not None
        lines = []
        for line in demo.stdout:
            lines.append(line.rstrip())
            accepted = re.search(r"(\d+) accepted", line)
            if accepted and int(accepted[1]) > 0:
                demo.send_signal(signal.SIGINT)
                break
        lines += demo.stdout.read().splitlines()
        status = demo.wait(60)
    finally:
        demo.kill()
        demo.communicate()
    assert re.fullmatch(r"demo: [1-9]\d* orders, 1 differences", lines[-1]), "\n".join(lines)
    assert status == 1
    assert _processes_naming(str(temporary)) == []
    assert list(temporary.iterdir()) == []
