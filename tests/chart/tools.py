"""The real tools that the chart is proven with, built once from Go modules and kept in the user's cache.

`python -m chart.tools [NAME...]` builds what is missing (nothing where Go is not installed) and says so.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

KUBERNETES = "1.34.2"  # what Helm is told that it renders for, where a test does not say otherwise
# Each: the module with its version, and the package in it that is the program.
TOOLS = {
    "helm": ("helm.sh/helm/v3", "v3.19.0", "/cmd/helm"),
    "etcd": ("go.etcd.io/etcd/server/v3", "v3.6.4", ""),
    "kube-apiserver": ("k8s.io/kubernetes", f"v{KUBERNETES}", "/cmd/kube-apiserver"),
}
ASKED = {"etcd", "kube-apiserver"}  # built only where they are asked for: that takes half an hour or more


class UnavailableError(Exception):
    """A tool is not there. The text names it and how to get it: the reason to skip."""


def cached(name: str) -> Path:
    """Where a tool that was built lies."""
    return cache() / "tools" / f"{name}-{TOOLS[name][1]}"


def tool(name: str) -> Path:
    """A tool that was built, or of the same name on the PATH. Raises UnavailableError."""
    if cached(name).exists():
        return cached(name)
    if found := shutil.which(name):
        return Path(found)
    how = "make chart APISERVER=1" if name in ASKED else "make chart"
    raise UnavailableError(f"{name} is not installed; `{how}` builds it where Go is")


def build(name: str) -> Path:
    """Build a tool if it is not there yet; the first time takes minutes. Raises UnavailableError where it cannot be."""
    module, version, package = TOOLS[name]
    target = cached(name)
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # another session may be building it
        if target.exists():
            return target
        with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
            folder = Path(scratch)
            (folder / "go.mod").write_text(
                f"module tools\n\ngo 1.24.0\n\nrequire {module} {version}\n{_replacements(module, version, folder)}"
            )
            (folder / "tools.go").write_text(
                f'//go:build tools\n\npackage tools\n\nimport _ "{module}{package}"\n', encoding="utf-8"
            )
            _go(
                "build",
                "-trimpath",
                f"-ldflags=-s -w{_stamp(module, version)}",
                "-o",
                str(folder / name),
                module + package,
                within=folder,
            )
            (folder / name).rename(target)
    return target


def _replacements(module: str, version: str, within: Path) -> str:
    """What Kubernetes takes from its own tree is published in modules of their own: v1.x.y as v0.x.y."""
    if module != "k8s.io/kubernetes":
        return ""
    told = json.loads(_go("mod", "download", "-json", f"{module}@{version}", within=within))
    staged = re.findall(r"^\s(\S+) => \./staging/", Path(told["GoMod"]).read_text(encoding="utf-8"), re.MULTILINE)
    return "".join(f"replace {name} => {name} v0{version.removeprefix('v1')}\n" for name in staged)


def _stamp(module: str, version: str) -> str:
    """Kubernetes is told at link time which version it is."""
    if module != "k8s.io/kubernetes":
        return ""
    return f" -X k8s.io/component-base/version.gitVersion={version}"


def _go(*arguments: str, within: Path) -> str:
    program = shutil.which("go")
    if program is None:
        raise UnavailableError("go is not installed")
    environment = {**os.environ, "GOFLAGS": "-mod=mod -buildvcs=false"}
    done = subprocess.run(
        [program, *arguments], cwd=within, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        errors = [line for line in done.stderr.splitlines() if not line.startswith("go: downloading")]
        raise UnavailableError(f"go {arguments[0]} failed: {' '.join(errors)[:500]}")
    return done.stdout


def cache() -> Path:
    """Where this project keeps what is slow to make, for later sessions."""
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "order-sync"


if __name__ == "__main__":
    for wanted in sys.argv[1:] or TOOLS.keys() - ASKED:
        try:
            print(f"{wanted}: {build(wanted)}")
        except UnavailableError as error:
            print(f"{wanted}: skipped: {error}")
