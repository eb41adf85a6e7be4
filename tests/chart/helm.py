"""The chart as the real Helm renders it."""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from chart.tools import KUBERNETES, tool
from chart.values import HELM

CI = HELM / "ci"
Manifest = dict[str, Any]


class RefusedError(Exception):
    """Helm does not render the chart with these values. The text is Helm's."""


def helm(*arguments: str, environment: Mapping[str, str] | None = None) -> str:
    """Run Helm; what it prints. Raises RefusedError with its words, UnavailableError where there is none."""
    done = subprocess.run([str(tool("helm")), *arguments], capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        raise RefusedError(done.stderr)
    return done.stdout


def read(path: Path) -> dict[str, Any]:
    """A YAML file."""
    data: dict[str, Any] = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
    return data


def merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """As Helm merges values: maps key by key, all else is replaced, null takes away."""
    result = dict(base)
    for key, value in over.items():
        below = result.get(key)
        if value is None and below is not None:
            del result[key]
            continue
        result[key] = merged(below, value) if isinstance(value, Mapping) and isinstance(below, Mapping) else value
    return result


class Rendered:
    """The manifests of one release."""

    def __init__(self, text: str) -> None:
        self.manifests: list[Manifest] = [one for one in YAML(typ="safe", pure=True).load_all(text) if one]

    def of(self, kind: str) -> list[Manifest]:
        """All of a kind."""
        return [one for one in self.manifests if one["kind"] == kind]

    def one(self, kind: str, ending: str = "") -> Manifest:
        """The only one of a kind whose name ends so."""
        [found] = [one for one in self.of(kind) if one["metadata"]["name"].endswith(ending)]
        return found

    @property
    def pod(self) -> Manifest:
        """The Deployment's pod template."""
        template: Manifest = self.one("Deployment")["spec"]["template"]
        return template

    def container(self, name: str) -> Manifest:
        """A container or init container of the pod."""
        spec = self.pod["spec"]
        [found] = [one for one in [*spec["initContainers"], *spec["containers"]] if one["name"] == name]
        return dict(found)

    @property
    def text(self) -> str:
        """All of it, to compare."""
        return json.dumps(self.manifests, sort_keys=True)


def render(values: Mapping[str, Any], *, release: str = "shop", options: Iterable[str] = ()) -> Rendered:
    """The chart with these values, in namespace `sync`."""
    return Rendered(template(values, release=release, options=options))


def template(values: Mapping[str, Any], *, release: str = "shop", options: Iterable[str] = ()) -> str:
    """The same as Helm's own text."""
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(values, file)
        file.flush()
        return helm(
            "template", release, str(HELM), "-n", "sync", "-f", file.name, "--kube-version", KUBERNETES, *options
        )
