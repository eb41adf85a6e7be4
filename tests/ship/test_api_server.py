"""The chart on a real API server: installed, upgraded, rolled back, and its pods let in as restricted ones."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from chart.cluster import Cluster, cluster
from chart.helm import CI, Rendered, helm, merged, read, render
from chart.tools import UnavailableError
from chart.values import HELM

pytestmark = pytest.mark.xdist_group("api_server")

FILES = sorted(CI.glob("*.yaml"))
# Their types belong to the Prometheus operator, whose definitions no Go module brings.
WITHOUT_OPERATOR = {"monitoring": {"podMonitor": {"enabled": False}, "prometheusRule": {"enabled": False}}}
RESTRICTED = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn")}
PATHS = {
    "ConfigMap": "api/v1/namespaces/{}/configmaps",
    "Deployment": "apis/apps/v1/namespaces/{}/deployments",
    "NetworkPolicy": "apis/networking.k8s.io/v1/namespaces/{}/networkpolicies",
    "PodDisruptionBudget": "apis/policy/v1/namespaces/{}/poddisruptionbudgets",
    "ServiceAccount": "api/v1/namespaces/{}/serviceaccounts",
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """One for the file."""
    try:
        with cluster(tmp_path_factory.mktemp("cluster")) as made:
            high = {"metadata": {"name": "high"}, "value": 1000}  # of ci/everything.yaml
            assert made.create("apis/scheduling.k8s.io/v1/priorityclasses", high).status_code == 201
            yield made
    except UnavailableError as error:
        pytest.skip(str(error))


class Release:
    """The chart in a namespace of its own, where only restricted pods are let in."""

    def __init__(self, server: Cluster, namespace: str, directory: Path) -> None:
        self._server, self._namespace = server, namespace
        self._values = directory / "values.json"
        metadata = {"name": namespace, "labels": RESTRICTED}
        assert server.create("api/v1/namespaces", {"metadata": metadata}).status_code == 201
        # Nobody makes it here; a pod of a chart that makes none would have it.
        account = {"metadata": {"name": "default"}}
        assert server.create(f"api/v1/namespaces/{namespace}/serviceaccounts", account).status_code == 201

    def helm(self, *arguments: str, values: dict[str, Any] | None = None) -> str:
        """Helm on this release."""
        command, *rest = arguments
        given: list[str] = []
        if values is not None:
            self._values.write_text(json.dumps(values))
            given = [str(HELM), "-f", str(self._values)]
        place = ["-n", self._namespace, "--kubeconfig", str(self._server.kubeconfig)]
        return helm(command, "shop", *given, *rest, *place)

    def holds(self, rendered: Rendered) -> None:
        """Every object is there, of every kind these and no others."""
        for kind, path in PATHS.items():
            wanted = {one["metadata"]["name"] for one in rendered.of(kind)}
            assert self.names(kind) - {"default", "kube-root-ca.crt"} == wanted, path

    def names(self, kind: str) -> set[str]:
        """Of what is there."""
        items = self._server.get(PATHS[kind].format(self._namespace))["items"]
        return {one["metadata"]["name"] for one in items}

    def deployment(self) -> dict[str, Any]:
        """As it is stored, with the server's defaults."""
        [one] = self._server.get(PATHS["Deployment"].format(self._namespace))["items"]
        return dict(one)

    def lets_in(self, pod: dict[str, Any]) -> None:
        """A pod of the template would be taken, and without a warning."""
        body = {**pod, "metadata": {**pod["metadata"], "name": "one"}}
        answer = self._server.create(f"api/v1/namespaces/{self._namespace}/pods", body, dryRun="All")
        assert answer.status_code == 201, answer.text
        assert "warning" not in answer.headers


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_it_is_installed_upgraded_and_rolled_back(path: Path, server: Cluster, tmp_path: Path) -> None:
    """Each step leaves what was asked for, and the revision that `migrate` goes by."""
    values = merged(read(path), WITHOUT_OPERATOR)
    changed = merged(values, {"replicas": 5, "podLabels": {"changed": "yes"}})
    release = Release(server, path.stem, tmp_path)
    told = release.helm("install", values=values)
    assert f"kubectl -n {path.stem} exec deployment/" in told
    release.holds(render(values))
    first = release.deployment()
    release.lets_in(first["spec"]["template"])
    release.helm("upgrade", values=changed)
    second = release.deployment()
    assert second["spec"]["replicas"] == 5
    assert second["spec"]["template"]["metadata"]["labels"]["changed"] == "yes"
    assert second["metadata"]["uid"] == first["metadata"]["uid"]
    release.helm("rollback", "1")
    third = release.deployment()
    assert third["spec"]["replicas"] == first["spec"]["replicas"]
    assert third["spec"]["template"] == first["spec"]["template"]
    assert json.loads(release.helm("history", "-o", "json"))[-1]["status"] == "deployed"
    release.helm("uninstall")
    assert all(release.names(kind) <= {"default", "kube-root-ca.crt"} for kind in PATHS)


def test_the_server_refuses_what_is_not_restricted(server: Cluster, tmp_path: Path) -> None:
    """The test above can fail."""
    release = Release(server, "unrestricted", tmp_path)
    pod = render(read(CI / "minimal.yaml")).pod
    pod["spec"]["serviceAccountName"] = "default"
    pod["spec"]["securityContext"]["runAsNonRoot"] = False
    with pytest.raises(AssertionError, match="violates PodSecurity"):
        release.lets_in(pod)
