"""MySQL and MariaDB servers of our own, with binary logs: loopback, a free port, files in one directory.

Both are spoken to by MariaDB's client, which the Debian package mariadb-server brings along.
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from fixtures.maven import jars

from daemon.demo.postgres import shared_directory
from daemon.demo.process import Child, Part, RigError, free_port, wait_until

DATABASE = "shop"
USER, PASSWORD = "recorder", "recorder"
CURE = "install the Debian package mariadb-server"
MYSQL = Path(__file__).with_name("mysql_server_pom.xml")
# What Debezium needs; the rest makes texts and times the same everywhere, and an unsynced disk enough.
OPTIONS = (
    "--no-defaults",
    "--bind-address=127.0.0.1",
    "--server-id=1",
    "--log-bin=binlog",
    "--binlog-format=ROW",
    "--binlog-row-image=FULL",
    "--character-set-server=utf8mb4",
    "--default-time-zone=+00:00",
    "--skip-name-resolve",
    "--innodb-flush-log-at-trx-commit=0",
    "--sync-binlog=0",
    "--innodb-buffer-pool-size=32M",
)
PREPARE = f"""
create database {{database}} character set utf8mb4;
create user {USER}@'%' identified by '{PASSWORD}';
grant all privileges on *.* to {USER}@'%';
"""


class BinlogServer(Part):
    """One server with one database. It runs as `nobody` where we are root, whom it would refuse to serve."""

    connector: ClassVar[str]
    """The class of Debezium's connector for it."""
    without_tls: ClassVar[str]
    """How that is told to use no TLS."""
    has_json: ClassVar[bool]
    """Whether there is a type of that name."""

    def __init__(self, database: str = DATABASE) -> None:
        super().__init__(Path(tempfile.mkdtemp(prefix="order-sync-binlog-", dir=shared_directory())))
        self.database = database
        self.port = 0
        self._child: Child | None = None

    def start(self) -> None:
        """Make the data directory, start, and return once it takes statements. Raises RigError."""
        identity = _identity()
        self.directory.chmod(0o755)
        data = self.directory / "data"
        data.mkdir()
        if identity is not None:
            os.chown(data, *identity)
        program = self._install(data)
        prepare = self.directory / "prepare.sql"
        prepare.write_text(PREPARE.format(database=self.database))
        self.port = free_port()
        places = [f"--datadir={data}", f"--socket={data / 'socket'}", f"--port={self.port}", f"--init-file={prepare}"]
        child = self._child = Child(
            "database server", [*program, *places], log=self.directory / "server.log", identity=identity, directory=data
        )
        wait_until(lambda: child.returncode is not None or self._answers(), "database server: start", timeout=60)
        if child.returncode is not None:
            raise child.failure("does not start")

    def stop(self) -> None:
        """Kill it: nobody reads its data afterwards."""
        if self._child is not None:
            self._child.end()
            self._child = None

    def remove(self) -> None:
        """Remove the data directory with everything in it."""
        shutil.rmtree(self.directory, ignore_errors=True)

    def run(self, script: str) -> list[str]:
        """Run statements of the client's dialect in one session; the lines that they print. Raises RigError."""
        done = self._client(script)
        if done.returncode:
            raise RigError(f"database server: {done.stderr.strip()}")
        return done.stdout.splitlines()

    def _install(self, data: Path) -> list[str | Path]:
        """Fill an empty data directory; the command that serves it, but for its places."""
        raise NotImplementedError

    def _answers(self) -> bool:
        return self._client("select 1;").returncode == 0

    def _client(self, script: str) -> subprocess.CompletedProcess[str]:
        where = ["--protocol=tcp", "--host=127.0.0.1", f"--port={self.port}", f"--user={USER}", self.database]
        form = ["--batch", "--raw", "--skip-column-names", "--default-character-set=utf8mb4"]
        return subprocess.run(
            [str(_program("mariadb")), "--no-defaults", *form, *where],
            input=script,
            env={**os.environ, "MYSQL_PWD": PASSWORD},
            capture_output=True,
            encoding="utf-8",
            check=False,
        )


class MariaServer(BinlogServer):
    """MariaDB, from the installed package's binaries."""

    connector = "io.debezium.connector.mariadb.MariaDbConnector"
    without_tls = "disable"
    has_json = True

    def _install(self, data: Path) -> list[str | Path]:
        maker: list[str | Path] = [
            _program("mariadb-install-db"),
            "--no-defaults",
            f"--datadir={data}",
            "--skip-test-db",
        ]
        _make(data, [*maker, "--auth-root-authentication-method=normal"])
        return [_program("mariadbd"), *OPTIONS]


class MySqlServer(BinlogServer):
    """MySQL 5.6 with GTIDs, of the only distribution that Maven Central has."""

    connector = "io.debezium.connector.mysql.MySqlConnector"
    without_tls = "disabled"
    has_json = False

    def _install(self, data: Path) -> list[str | Path]:
        base = self.directory / "mysql"
        with zipfile.ZipFile(next(jars(MYSQL).glob("*.zip"))) as archive:
            for name in archive.namelist():
                if name == "bin/mysqld" or name.startswith("share/"):
                    archive.extract(name, base)
        server = base / "bin" / "mysqld"
        server.chmod(0o755)
        (data / "mysql").mkdir()
        shutil.chown(data / "mysql", *(_identity() or (os.getuid(), os.getgid())))
        tables = [base / "share" / f"mysql_system_tables{part}.sql" for part in ("", "_data")]
        script = "use mysql;\n" + "".join(path.read_text(encoding="utf-8") for path in tables)
        program: list[str | Path] = [server, "--no-defaults", f"--basedir={base}"]
        _make(data, [*program, f"--datadir={data}", "--bootstrap"], script)
        gtids = ["--gtid-mode=ON", "--enforce-gtid-consistency", "--log-slave-updates"]
        return [server, *OPTIONS, f"--basedir={base}", *gtids]


def _make(data: Path, command: Sequence[str | Path], script: str = "") -> None:
    user, group = _identity() or (None, None)
    done = subprocess.run(
        [str(part) for part in command],
        input=script,
        user=user,
        group=group,
        extra_groups=None if user is None else [],
        cwd=data,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RigError(f"{Path(command[0]).name} failed: {(done.stdout + done.stderr).strip()[-500:]}")


def _identity() -> tuple[int, int] | None:
    if os.geteuid() != 0:
        return None
    nobody = pwd.getpwnam("nobody")
    return nobody.pw_uid, nobody.pw_gid


def _program(name: str) -> Path:
    path = shutil.which(name, path=os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin")))
    if path is None:
        raise RigError(f"{name} was not found; {CURE}")
    return Path(path)
