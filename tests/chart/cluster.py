"""A real API server of Kubernetes over a real etcd. Nothing controls or runs: objects are judged and stored."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from chart.tools import tool
from daemon.demo.process import Child, free_port, wait_until

TOKEN = "token-of-the-tests"
START_SECS = 120


class Cluster:
    """What tests and Helm need to speak to it."""

    def __init__(self, url: str, home: Path) -> None:
        self.kubeconfig = home / "kubeconfig.json"
        entry = {"cluster": {"server": url, "insecure-skip-tls-verify": True}, "name": "tests"}
        context = {"context": {"cluster": "tests", "user": "tests"}, "name": "tests"}
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [entry],
            "users": [{"name": "tests", "user": {"token": TOKEN}}],
            "contexts": [context],
            "current-context": "tests",
        }
        self.kubeconfig.write_text(json.dumps(config))  # JSON is YAML
        headers = {"Authorization": f"Bearer {TOKEN}"}
        self._http = httpx.Client(base_url=url, headers=headers, verify=False, timeout=30, trust_env=False)  # noqa: S501 - its own

    def get(self, path: str) -> dict[str, Any]:
        """An object, or a list of them."""
        found: dict[str, Any] = self._http.get(path).raise_for_status().json()
        return found

    def create(self, path: str, body: Mapping[str, Any], **asked: str) -> httpx.Response:
        """What the server says to a new object, field by field."""
        return self._http.post(path, json=body, params={"fieldValidation": "Strict", **asked})

    def ready(self) -> bool:
        """Whether it serves all it has."""
        try:
            return self._http.get("/readyz").is_success
        except httpx.HTTPError:
            return False

    def close(self) -> None:
        """Give the connections back."""
        self._http.close()


@contextmanager
def cluster(home: Path) -> Iterator[Cluster]:
    """An empty one, with its files in `home`. Raises UnavailableError."""
    programs = {name: tool(name) for name in ("etcd", "kube-apiserver")}
    peers, clients, port = free_port(), free_port(), free_port()
    store = f"http://127.0.0.1:{clients}"
    key = home / "key.pem"
    subprocess.run(["openssl", "genrsa", "-out", key, "2048"], check=True, capture_output=True)
    (home / "tokens.csv").write_text(f'{TOKEN},tests,1,"system:masters"\n')
    commands: dict[str, list[str | Path]] = {
        "etcd": [
            f"--data-dir={home / 'etcd'}",
            f"--listen-client-urls={store}",
            f"--advertise-client-urls={store}",
            f"--listen-peer-urls=http://127.0.0.1:{peers}",
        ],
        "kube-apiserver": [
            f"--etcd-servers={store}",
            f"--secure-port={port}",
            "--bind-address=127.0.0.1",
            "--advertise-address=127.0.0.1",
            "--endpoint-reconciler-type=none",
            f"--cert-dir={home / 'certificates'}",
            f"--token-auth-file={home / 'tokens.csv'}",
            "--authorization-mode=RBAC",
            "--service-account-issuer=https://tests.example",
            f"--service-account-key-file={key}",
            f"--service-account-signing-key-file={key}",
            "--service-cluster-ip-range=10.0.0.0/24",
        ],
    }
    children = [
        Child(name, [programs[name], *options], log=home / f"{name}.log", directory=home)
        for name, options in commands.items()
    ]
    made = Cluster(f"https://127.0.0.1:{port}", home)
    try:
        wait_until(
            lambda: made.ready() or any(child.returncode is not None for child in children),
            "the API server's answer",
            timeout=START_SECS,
            interval=0.2,
        )
        for child in children:
            if child.returncode is not None:
                raise child.failure(f"ended with status {child.returncode}")
        yield made
    finally:
        made.close()
        for child in reversed(children):
            child.end()
