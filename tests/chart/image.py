"""Replays the Dockerfile where there is no Docker: its steps in clean roots, one a stage.

The base image is replaced by the distribution's Python in a minimal root (debootstrap, kept in the cache), so what the
base image itself brings is not proven; every COPY, RUN, ENV and USER of ours is.
"""

from __future__ import annotations

import fnmatch
import json
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from chart.tools import UnavailableError, cache

ROOT = Path(__file__).parents[2]
DOCKERFILE = ROOT / "Dockerfile"
SUITE = "bookworm"
PACKAGES = "python3,python3-venv,ca-certificates"
# What a build on this machine needs to reach its package index; none of it is in the image.
FROM_HOST = ("/etc/resolv.conf", "/etc/hosts", "/etc/pip.conf", "/etc/ssl/certs/ca-certificates.crt")


def steps(text: str) -> Iterator[tuple[str, str]]:
    """Instruction and argument, in order; continued lines are one, comments are none."""
    joined = re.sub(r"\\\n", " ", "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#")))
    for line in filter(None, map(str.strip, joined.splitlines())):
        word, _, rest = line.partition(" ")
        yield word.upper(), rest.strip()


def in_context() -> list[Path]:
    """The files that `.dockerignore` lets into a build, relative to the repository."""
    rules = [
        line for line in (ROOT / ".dockerignore").read_text().splitlines() if line.strip() and not line.startswith("#")
    ]
    tracked = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    return [Path(name) for name in tracked if (ROOT / name).is_file() and not _ignored(name, rules)]


def _ignored(name: str, rules: list[str]) -> bool:
    """The last rule that fits decides, as Docker has it."""
    ignored = False
    for rule in rules:
        pattern = rule.removeprefix("!").rstrip("/")
        names = [name, *(str(parent) for parent in Path(name).parents)]
        if any(fnmatch.fnmatch(one, pattern.replace("**/", "*")) for one in names):
            ignored = not rule.startswith("!")
    return ignored


def of_root(name: str) -> str:
    """A program that only root has use for. Raises UnavailableError."""
    program = shutil.which(name, path="/usr/sbin:/usr/bin")
    if program is None or os.geteuid() != 0:
        raise UnavailableError(f"{name} is not installed, or this is not root")
    return program


@dataclass
class Stage:
    """A root file system and what its configuration is so far."""

    root: Path
    environment: dict[str, str] = field(default_factory=dict)
    workdir: str = "/"
    user: str = "0:0"
    labels: dict[str, str] = field(default_factory=dict)
    entrypoint: list[str] = field(default_factory=list)
    command: list[str] = field(default_factory=list)

    def run(self, *command: str, user: str | None = None, **given: str) -> subprocess.CompletedProcess[str]:
        """A command in the root, as the stage's user."""
        return subprocess.run(
            [of_root("chroot"), f"--userspec={user or self.user}", str(self.root), *command],
            env={"PATH": "/usr/local/bin:/usr/bin:/bin", "LC_ALL": "C.UTF-8", **self.environment, **given},
            capture_output=True,
            text=True,
            check=False,
            cwd=self.root,
        )


class Replay:
    """The stages of the Dockerfile, built one after the other under `directory`."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.stages: dict[str, Stage] = {}
        self._base = cache() / f"root-{SUITE}"

    def build(self) -> Stage:
        """The last stage. Raises UnavailableError where roots cannot be made, RuntimeError where a step fails."""
        self._debootstrap()
        stage: Stage | None = None
        arguments: dict[str, str] = {}
        for word, rest in steps(DOCKERFILE.read_text(encoding="utf-8")):
            if word == "FROM":
                name = rest.partition(" AS ")[2] or "final"
                stage = self.stages[name] = Stage(self.directory / name)
                # Owners and devices too: a copy of what is in /dev/zero would never end.
                subprocess.run(["cp", "--archive", self._base, stage.root], check=True)
                self._from_host(stage.root)
            elif word == "ARG":
                name, _, default = rest.partition("=")
                arguments[name] = default
            elif stage is not None:
                self._step(stage, word, rest, arguments)
        if stage is None:
            raise RuntimeError("the Dockerfile has no stage")
        return stage

    def _debootstrap(self) -> None:
        program = of_root("debootstrap")
        if self._base.exists():
            return
        fresh = self.directory / "base"
        done = subprocess.run(
            [program, "--variant=minbase", f"--include={PACKAGES}", SUITE, str(fresh)],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise UnavailableError(f"debootstrap cannot make a root: {done.stdout[-300:]}")
        (fresh / "usr/local/bin/python").symlink_to("/usr/bin/python3")
        self._base.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(fresh, self._base)

    def _from_host(self, root: Path) -> None:
        for name in FROM_HOST:
            if Path(name).exists():
                target = root / name.lstrip("/")
                target.unlink(missing_ok=True)
                shutil.copyfile(name, target)

    def _step(self, stage: Stage, word: str, rest: str, arguments: Mapping[str, str]) -> None:
        filled = re.sub(r"\$\{?(\w+)\}?", lambda m: {**arguments, **stage.environment}.get(m[1], ""), rest)
        if word == "ENV":
            path = {"PATH": "/usr/local/bin:/usr/bin:/bin"}
            words = shlex.split(re.sub(r"\$\{?(\w+)\}?", lambda m: {**path, **stage.environment}.get(m[1], ""), rest))
            stage.environment |= dict(part.split("=", 1) for part in words)
        elif word == "LABEL":
            stage.labels |= dict(part.split("=", 1) for part in shlex.split(filled))
        elif word == "WORKDIR":
            stage.workdir = filled
            (stage.root / filled.lstrip("/")).mkdir(parents=True, exist_ok=True)
        elif word == "USER":
            stage.user = filled
        elif word == "ENTRYPOINT":
            stage.entrypoint = json.loads(rest)
        elif word == "CMD":
            stage.command = json.loads(rest)
        elif word == "COPY":
            self._copy(stage, shlex.split(filled))
        elif word == "RUN":
            outside = {name: value for name, value in os.environ.items() if name.startswith("PIP_")}
            outside = {name: value for name, value in outside.items() if name != "PIP_CERT"}
            done = stage.run("/bin/sh", "-ec", f"cd {stage.workdir} && {rest}", **outside)
            if done.returncode:
                raise RuntimeError(f"RUN {rest[:80]}: {done.stdout[-800:]}{done.stderr[-1500:]}")

    def _copy(self, stage: Stage, words: list[str]) -> None:
        options = [word for word in words if word.startswith("--")]
        *sources, target = [word for word in words if not word.startswith("--")]
        into = stage.root / str(Path(stage.workdir, target)).lstrip("/")
        if options:
            origin = self.stages[options[0].removeprefix("--from=")].root
            for source in sources:
                shutil.copytree(origin / source.lstrip("/"), into, symlinks=True)
            return
        context = in_context()
        for source in sources:
            files = [one for one in context if str(one) == source or Path(source) in one.parents]
            if not files:
                raise RuntimeError(f"COPY {source}: nothing of it is in the build context")
            for one in files:
                inside = into / (one.relative_to(source) if one != Path(source) else Path(source).name)
                inside.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(ROOT / one, inside)
