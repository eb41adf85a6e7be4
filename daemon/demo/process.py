"""Child processes of the rig: started so that they die with their parent, and always reaped.

Linux: the death signal is bound to the thread that starts the child. Start children from a thread that lives as long
as they should (the main thread).
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from daemon.errors import RefuseToStart

LAUNCHER = Path(__file__).with_name("launch.py")
LOG_TAIL_BYTES = 2000


class RigError(RefuseToStart):
    """A part of the embedded rig cannot be started. The message says which, why, and the cure."""


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nothing listens on now. Somebody may take it before its user does: retry then."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def wheel_directory(package: str, distribution: str) -> Path:
    """Where an installed package lies, without importing it. Raises RigError naming the distribution to install."""
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        raise RigError(f"{distribution} is not installed; install the extra: pip install 'northbeam-order-sync[demo]'")
    return Path(spec.origin).parent


def wait_until(ready: Callable[[], bool], what: str, *, timeout: float, interval: float = 0.02) -> None:
    """Poll `ready` until it is true. Raises RigError after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while not ready():
        if time.monotonic() > deadline:
            raise RigError(f"{what} did not happen within {timeout:g} s")
        time.sleep(interval)


class Child:
    """One child process in a session of its own, so that Ctrl-C at the terminal reaches the parent alone."""

    def __init__(
        self,
        name: str,
        command: Sequence[str | Path],
        *,
        log: Path,
        identity: tuple[int, int] | None = None,
        environment: Mapping[str, str] | None = None,
        directory: Path | None = None,
        death_signal: signal.Signals = signal.SIGKILL,
        piped: bool = False,
    ) -> None:
        """`log` collects standard error, and standard output too unless `piped`. `identity` is (uid, gid) to become."""
        self.name = name
        self.log = log
        who = "-" if identity is None else f"{identity[0]}:{identity[1]}"
        launch = [sys.executable, "-I", "-S", str(LAUNCHER), str(os.getpid()), str(int(death_signal)), who]
        with log.open("ab") as sink:
            self._process = subprocess.Popen(
                [*launch, *(str(part) for part in command)],
                stdin=subprocess.PIPE if piped else subprocess.DEVNULL,
                stdout=subprocess.PIPE if piped else sink,
                stderr=sink,
                env=dict(environment) if environment is not None else None,
                cwd=directory,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """Its process id, the same from launch to end."""
        return self._process.pid

    @property
    def stdin(self) -> IO[bytes]:
        """Its standard input; only where it was started with `piped`."""
        assert self._process.stdin is not None  # noqa: S101 - the caller asked for the pipe
        return self._process.stdin

    @property
    def stdout(self) -> IO[bytes]:
        """Its standard output; only where it was started with `piped`."""
        assert self._process.stdout is not None  # noqa: S101 - the caller asked for the pipe
        return self._process.stdout

    @property
    def returncode(self) -> int | None:
        """How it ended; None while it runs. Reaps it."""
        return self._process.poll()

    def send(self, number: signal.Signals) -> None:
        """Signal it, if it still runs."""
        if self.returncode is None:
            self._process.send_signal(number)

    def wait(self, timeout: float) -> int | None:
        """Its exit status, or None where it still runs after `timeout` seconds."""
        try:
            return self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            return None

    def end(self, number: signal.Signals = signal.SIGKILL, *, timeout: float = 10.0) -> None:
        """Signal it, wait, and kill it where that was not enough. It is reaped and its pipes are closed at return."""
        self.send(number)
        if self.wait(timeout) is None:
            self.send(signal.SIGKILL)
            self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()

    def failure(self, what: str) -> RigError:
        """What to raise where it did not do its work: the text names it and shows the end of its log."""
        return RigError(f"{self.name}: {what}; the end of {self.log}:\n{log_tail(self.log)}")


def log_tail(path: Path) -> str:
    """The last lines of a log file."""
    try:
        return path.read_bytes()[-LOG_TAIL_BYTES:].decode(errors="replace").strip()
    except OSError:
        return "(no log)"


class Part:
    """A part of the rig: a directory (given, or temporary and removed at the end), `start` and `stop`."""

    def __init__(self, directory: Path | None = None) -> None:
        self._own_directory = directory is None
        self.directory = Path(tempfile.mkdtemp(prefix="order-sync-")) if directory is None else directory
        self.directory.mkdir(parents=True, exist_ok=True)

    def start(self) -> None:
        """Start it and return once it can be used."""
        raise NotImplementedError

    def stop(self) -> None:
        """Stop it. May be called twice."""
        raise NotImplementedError

    def remove(self) -> None:
        """Remove what it wrote."""
        if self._own_directory:
            shutil.rmtree(self.directory, ignore_errors=True)

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.stop()
        finally:
            self.remove()
