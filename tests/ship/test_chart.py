"""The chart, rendered by the real Helm: what each value does, what is refused, and that manifests are valid."""

from __future__ import annotations

import copy
import json
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from chart.helm import CI, RefusedError, Rendered, helm, merged, read, render, template
from chart.rules import rules
from chart.tools import KUBERNETES, UnavailableError, tool
from chart.values import HELM, read_values

from daemon.settings_file import load_settings

REFERENCE = HELM / "files" / "reference.yaml"
FILES = sorted(CI.glob("*.yaml"))
MINIMAL = read(CI / "minimal.yaml")
VERSIONS = ("1.29", "1.33", "1.37")  # oldest that the chart accepts, one between, newest that is known here
ALERTS = ("monitoring", "prometheusRule", "alerts")
VALUES = {".".join(value.key): value for value in read_values() if not value.inner and value.key[:-1] != ALERTS}
OF_THE_OPERATOR = {"PodMonitor", "PrometheusRule"}  # no schema of Kubernetes itself


@pytest.fixture(scope="module", autouse=True)
def _real_helm() -> None:
    try:
        tool("helm")
    except UnavailableError as error:
        pytest.skip(str(error))


def _with(**values: Any) -> Rendered:
    return render(merged(MINIMAL, values))


@pytest.fixture(scope="module")
def plain() -> Rendered:
    """The least that has to be said."""
    return render(MINIMAL)


@pytest.fixture(scope="module")
def full() -> Rendered:
    """Every value other than its default."""
    return render(read(CI / "everything.yaml"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_file_of_ci_passes_lint(path: Path) -> None:
    """`helm lint --strict` has nothing to say."""
    assert "0 chart(s) failed" in helm("lint", str(HELM), "--strict", "--kube-version", KUBERNETES, "-f", str(path))


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_manifests_fit_three_versions_of_kubernetes(path: Path, version: str) -> None:
    """Strictly: no unknown field, no wrong type."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import kubernetes_validate
    for manifest in render(read(path), options=["--kube-version", version]).manifests:
        if manifest["kind"] not in OF_THE_OPERATOR:
            kubernetes_validate.validate(manifest, version, strict=True)


def test_the_validator_finds_a_wrong_field(plain: Rendered) -> None:
    """The test above can fail."""
    import kubernetes_validate

    wrong = merged(plain.one("Deployment"), {"spec": {"replica": 1}})
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, VERSIONS[0], strict=True)


# Every key takes a value other than its default at least once


def _set(values: Mapping[str, Any], key: tuple[str, ...], default: Any) -> bool:
    inside: Any = values
    for part in key:
        if not isinstance(inside, Mapping) or part not in inside:
            return False
        inside = inside[part]
    return bool(inside != default)


def _alerts_changed() -> dict[str, Any]:
    """Every knob of every alert other than its default."""
    changed = {}
    for value in read_values():
        if value.key[:-1] == ALERTS:
            knobs = {
                "enabled": True,
                "severity": "warning" if value.default["severity"] == "critical" else "critical",
                "for": "33m",
            }
            changed[value.key[-1]] = knobs | ({"threshold": 123} if "threshold" in value.default else {})
    return {"monitoring": {"prometheusRule": {"enabled": True, "alerts": changed}}}


def test_every_value_is_tried_with_another_than_its_default() -> None:
    """By the files of ci/, the alerts' knobs and the settings below: a value that nothing renders is found here."""
    tried = [*map(read, FILES), _alerts_changed()]
    untried = [
        ".".join(value.key)
        for value in read_values()
        if not value.inner and not any(_set(values, value.key, value.default) for values in tried)
    ]
    assert untried == []


@pytest.mark.parametrize("name", VALUES)
def test_every_value_does_something(name: str) -> None:
    """Where a file of ci/ sets it, the default makes other manifests, or is refused."""
    value = VALUES[name]
    values = next(values for values in map(read, FILES) if _set(values, value.key, value.default))
    reset: Any = copy.deepcopy(values)
    inside = reset
    for part in value.key[:-1]:
        inside = inside[part]
    inside[value.key[-1]] = value.default
    try:
        assert template(reset) != template(values)
    except RefusedError:
        template(values)


def test_the_alerts_follow_their_knobs() -> None:
    """Severity, duration and threshold of each; one that is not enabled is not there."""
    values = merged(read(CI / "everything.yaml"), {"role": "both", **_alerts_changed()})
    values["monitoring"] = merged(read(CI / "everything.yaml")["monitoring"], _alerts_changed()["monitoring"])
    changed = values["monitoring"]["prometheusRule"]["alerts"]
    rules = {rule["alert"]: rule for rule in render(values).one("PrometheusRule")["spec"]["groups"][0]["rules"]}
    assert rules.keys() == changed.keys()
    for name, knobs in changed.items():
        assert rules[name]["for"] == "33m"
        assert rules[name]["labels"]["severity"] == knobs["severity"]
        if "threshold" in knobs:
            assert "> 123" in rules[name]["expr"]
        assert rules[name]["annotations"]["runbook_url"].endswith(f"#{name.lower()}")
        assert 'job="shop-sync"' in rules[name]["expr"]
        assert "@" not in json.dumps(rules[name])
    values["monitoring"]["prometheusRule"]["alerts"] = {
        name: {"enabled": False} for name in changed if "NoLeader" in name
    }
    assert "OrderSyncNoLeader" not in render(values).text


def test_the_tests_of_the_alerts_are_about_what_the_chart_installs() -> None:
    """`chart.rules` makes of the same files what the template makes."""
    rule = {"monitoring": {"podMonitor": {"enabled": True}, "prometheusRule": {"enabled": True}}}
    [group] = _with(**rule).one("PrometheusRule")["spec"]["groups"]
    for installed in group["rules"]:
        del installed["annotations"]["runbook_url"]
    assert group["rules"] == rules("sync/shop-order-sync")


def test_a_release_has_the_alerts_of_its_role() -> None:
    """What delivers can go stale, what ingests can fall behind; an alert that could never fire is not installed."""
    rule = {"monitoring": {"podMonitor": {"enabled": True}, "prometheusRule": {"enabled": True}}}
    names = {
        role: {one["alert"] for one in _with(role=role, **rule).one("PrometheusRule")["spec"]["groups"][0]["rules"]}
        for role in ("both", "ingest", "deliver")
    }
    assert "OrderSyncNoLeader" not in names["ingest"]
    assert "OrderSyncIngestBehind" not in names["deliver"]
    assert names["ingest"] | names["deliver"] == names["both"]


# The daemon's own files


def _settings_file(rendered: Rendered, tmp_path: Path, name: str = "settings.yaml") -> Path:
    path = tmp_path / name
    path.write_text(rendered.one("ConfigMap", "-settings")["data"][name])
    return path


def _changed(value: Any, schema: Mapping[str, Any]) -> Any:
    """Another value of the same kind that the schema takes."""
    if schema.get("enum"):
        return next(other for other in schema["enum"] if other != value)
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        bound = schema.get("maximum", schema.get("exclusiveMaximum"))
        return value + 1 if bound is None or value + 1 <= bound else type(value)(value / 2)
    if isinstance(value, dict):
        return {"some.name": "SOME_NAME"}
    return "x" + (value or "")


def _all_changed(data: Mapping[str, Any], schema: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for key, value in data.items():
        inner = (
            schema["properties"][key] if "properties" in schema else next(iter(schema["patternProperties"].values()))
        )
        deep = isinstance(value, dict) and value and ("properties" in inner or "patternProperties" in inner)
        yield key, dict(_all_changed(value, inner)) if deep else _changed(value, inner)


def test_every_setting_goes_through_to_the_daemon(tmp_path: Path) -> None:
    """Each key of the reference, changed, passes the chart's schema and arrives as it was given, numbers as numbers."""
    schema = json.loads((HELM / "values.schema.json").read_text())["$defs"]["settings"]
    reference = read(REFERENCE)
    del reference["mapping"]
    given = dict(_all_changed(reference, schema))
    given["operate"]["listen_host"] = "::"
    rendered = render(
        merged({**MINIMAL, "config": {}}, {"config": given, "secrets": {}, "extraEnv": _variables(given)})
        | {"secrets": {}}
    )
    arrived = read(_settings_file(rendered, tmp_path))
    assert arrived.pop("mapping") == "/etc/order-sync/mapping/mapping.yaml"
    assert arrived == given


def _variables(given: Any) -> list[dict[str, str]]:
    names = {given["postgres"]["password_env"], "SOME_NAME"}
    names |= {one["api_key_env"] for one in given["destinations"].values()}
    return [{"name": name, "value": ""} for name in sorted(names)]


def test_the_rendered_settings_load(tmp_path: Path, full: Rendered) -> None:
    """As the daemon reads them; `migrate` gets the same with another role."""
    settings = load_settings(_settings_file(full, tmp_path), environ={})
    migrating = load_settings(_settings_file(full, tmp_path, "migrate.yaml"), environ={})
    assert settings.delivery.budget_bytes == 20_000_000
    assert "user=order_sync_owner" in migrating.postgres.dsn
    assert migrating.model_copy(update={"postgres": settings.postgres}) == settings


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"kafka": {"batch_max_byte": 1}}, "batch_max_byte"),
        ({"delivery": {"max_orders_per_request": 5000}}, "max_orders_per_request"),
        ({"mapping": "mapping.yaml"}, "mapping"),
        ({"debounce": {"quiet_secs": "soon"}}, "quiet_secs"),
    ],
)
def test_a_wrong_setting_is_refused_before_anything_is_installed(config: dict[str, Any], words: str) -> None:
    """The schema of the settings is part of the chart's."""
    with pytest.raises(RefusedError, match=words):
        _with(config=config)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"image": {"repository": ""}}, "image.repository is required"),
        ({"image": {"tag": "1", "digest": "sha256:" + "0" * 64}}, "image.tag and image.digest exclude"),
        ({"mapping": {"existingConfigMap": "x"}}, "mapping.text and mapping.existingConfigMap exclude"),
        ({"mapping": {"text": ""}}, "mapping.text or mapping.existingConfigMap is required"),
        ({"config": {"destinations": None}}, "config.destinations is required"),
        ({"config": {"operate": {"listen_host": "127.0.0.1"}}}, "config.operate.listen_host"),
        ({"config": {"operate": {"listen_port": 0}}}, "config.operate.listen_port"),
        (
            {"secrets": {"ORDER_SYNC_API_KEY": None}},
            "config.destinations.northbeam.api_key_env names ORDER_SYNC_API_KEY",
        ),
        ({"secrets": {"ORDER_SYNC_POSTGRES_PASSWORD": None}}, "config.postgres.password_env names"),
        (
            {"config": {"kafka": {"secret_properties": {"sasl.password": "KAFKA"}}}},
            "config.kafka.secret_properties.sasl.password names KAFKA",
        ),
        (
            {"config": {"kafka": {"schema_registry_secret_properties": {"bearer.auth.token": "TOKEN"}}}},
            "config.kafka.schema_registry_secret_properties.bearer.auth.token names TOKEN",
        ),
        ({"secrets": {"OTHER": {"secret": "a", "key": "b"}}}, "secrets.OTHER: no key of config names it"),
        ({"migrate": {"enabled": False, "dsn": "x"}}, "migrate.dsn is for migrate.enabled"),
        ({"migrate": {"passwordSecret": {"name": "x"}}}, "migrate.passwordSecret is for migrate.dsn"),
        ({"podDisruptionBudget": {"minAvailable": 1}}, "podDisruptionBudget: set exactly one"),
        ({"podDisruptionBudget": {"maxUnavailable": None}}, "podDisruptionBudget: set exactly one"),
        ({"rollingUpdate": {"maxSurge": "0%"}}, "no pod could ever be replaced"),
        ({"serviceAccount": {"create": False, "annotations": {"a": "b"}}}, "serviceAccount.annotations are for"),
        ({"monitoring": {"prometheusRule": {"enabled": True}}}, "monitoring.prometheusRule without"),
        ({"extraVolumes": [{"name": "tmp", "emptyDir": {}}]}, "the chart itself has a volume tmp"),
        ({"replica": 3}, "replica"),
        ({"monitoring": {"slo": {"withinSecs": 1000}}}, "withinSecs"),
        ({"extraContainers": [{"name": "x", "imag": "y"}]}, "imag"),
    ],
    ids=lambda value: value[:40].replace(" ", "_") if isinstance(value, str) else "",
)
def test_what_cannot_work_is_refused_by_name(values: dict[str, Any], words: str) -> None:
    """Before anything is installed, and in words that say what to change."""
    with pytest.raises(RefusedError) as refused:
        _with(**values)
    assert words in str(refused.value)


# What the pods are


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_pods_are_restricted(path: Path) -> None:
    """As the restricted pod security standard wants it, with a root file system that nobody writes to."""
    rendered = render(read(path))
    security = rendered.pod["spec"]["securityContext"]
    assert security["runAsNonRoot"] is True
    assert security["seccompProfile"] == {"type": "RuntimeDefault"}
    names = ["check", "order-sync"] + (["migrate"] if read(path).get("migrate", {}).get("enabled", True) else [])
    for name in names:
        assert rendered.container(name)["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
            "runAsNonRoot": True,
        }


def test_init_containers_stand_before_the_daemon(plain: Rendered) -> None:
    """First what asks nobody, then the schema; each with the same files and secrets as the daemon."""
    assert [one["name"] for one in plain.pod["spec"]["initContainers"]] == ["check", "migrate"]
    daemon = plain.container("order-sync")
    assert plain.container("check")["args"][-2:] == ["check", "--offline"]
    for name in ("check", "migrate"):
        assert plain.container(name)["volumeMounts"] == daemon["volumeMounts"]
        assert plain.container(name)["image"] == daemon["image"]


def test_secrets_are_files_that_the_settings_name(full: Rendered) -> None:
    """Each variable's _FILE lies where the Secret's key is mounted; migrating uses its own password."""
    environment = {one["name"]: one.get("value") for one in full.container("order-sync")["env"]}
    sources = full.pod["spec"]["volumes"][3]["projected"]["sources"]
    mounted = {f"/var/run/secrets/order-sync/{item['path']}" for one in sources for item in one["secret"]["items"]}
    assert {value for name, value in environment.items() if name.endswith("_FILE")} == mounted
    migrating = {one["name"]: one.get("value") for one in full.container("migrate")["env"]}
    assert migrating["ORDER_SYNC_POSTGRES_PASSWORD_FILE"] == "/var/run/secrets/order-sync-migrate/owner-password"
    assert environment.keys() <= migrating.keys()


def test_a_migrating_role_without_a_password_is_given_none() -> None:
    """Neither the variable nor its name reach `migrate`; the daemon has both."""
    rendered = render(read(CI / "openshift.yaml"))
    assert "ORDER_SYNC_POSTGRES_PASSWORD" not in json.dumps(rendered.container("migrate"))
    assert "ORDER_SYNC_POSTGRES_PASSWORD" in json.dumps(rendered.container("order-sync"))
    assert '"password_env": null' in rendered.one("ConfigMap", "-settings")["data"]["migrate.yaml"]


@pytest.mark.parametrize(("secs", "grace"), [(None, 60), (45, 60), (60.5, 76), (300, 315)])
def test_the_grace_period_exceeds_the_shutdown_deadline(secs: float | None, grace: int) -> None:
    """Derived from operate.shutdown_secs, or from its default in the reference."""
    rendered = _with(config={"operate": {"shutdown_secs": secs}} if secs else {})
    assert rendered.pod["spec"]["terminationGracePeriodSeconds"] == grace


def test_another_configuration_replaces_the_pods_and_the_same_does_not() -> None:
    """The pod template carries the checksum of settings and mapping, and nothing that moves with the revision."""
    before, same = render(MINIMAL), render(MINIMAL, options=["--is-upgrade"])
    assert before.pod == same.pod
    mapping = _with(mapping={"text": MINIMAL["mapping"]["text"] + "# other\n"})
    settings = _with(config={"debounce": {"quiet_secs": 1}})
    assert len({one.pod["metadata"]["annotations"]["checksum/config"] for one in (before, mapping, settings)}) == 3


def test_probes_ask_the_port_that_the_settings_say(full: Rendered, plain: Rendered) -> None:
    """Progress, not dependencies: /livez restarts, /readyz does not."""
    for rendered, port in ((plain, 9108), (full, 9200)):
        daemon = rendered.container("order-sync")
        assert daemon["ports"] == [{"name": "metrics", "containerPort": port}]
        assert daemon["livenessProbe"]["httpGet"] == {"path": "/livez", "port": "metrics"}
        assert daemon["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": "metrics"}
    assert full.container("order-sync")["livenessProbe"]["periodSeconds"] == 20
    assert full.container("order-sync")["readinessProbe"]["failureThreshold"] == 2


def test_zero_is_a_value() -> None:
    """No pods, no old ReplicaSets, a budget of nobody."""
    rendered = _with(replicas=0, revisionHistoryLimit=0, podDisruptionBudget={"maxUnavailable": 0})
    assert rendered.one("Deployment")["spec"]["replicas"] == 0
    assert rendered.one("Deployment")["spec"]["revisionHistoryLimit"] == 0
    assert rendered.one("PodDisruptionBudget")["spec"]["maxUnavailable"] == 0


def test_optional_objects_are_there_when_asked_for() -> None:
    """And only then."""
    ingest = {one["kind"] for one in render(read(CI / "ingest.yaml")).manifests}
    assert ingest == {"ConfigMap", "Deployment", "PodMonitor", "PrometheusRule"}
    everything = {one["kind"] for one in render(read(CI / "everything.yaml")).manifests}
    assert everything == ingest | {"NetworkPolicy", "PodDisruptionBudget", "ServiceAccount"}


def test_the_rest_of_the_values_land_where_they_belong(full: Rendered) -> None:
    """One look at each value of everything.yaml that no other test looks at."""
    values, spec, pod = read(CI / "everything.yaml"), full.one("Deployment")["spec"], full.pod["spec"]
    assert full.one("Deployment")["metadata"]["name"] == "shop-sync"
    assert spec["selector"]["matchLabels"]["app.kubernetes.io/name"] == "orders"
    assert spec["replicas"] == 3
    assert spec["strategy"]["rollingUpdate"] == values["rollingUpdate"]
    daemon = full.container("order-sync")
    assert daemon["image"].endswith("order-sync@" + values["image"]["digest"])
    assert daemon["imagePullPolicy"] == "Always"
    assert daemon["args"][-2:] == ["--role", "deliver"]
    assert daemon["resources"] == values["resources"]
    assert values["extraEnv"][0] in daemon["env"]
    assert values["extraVolumeMounts"][0] in daemon["volumeMounts"]
    assert pod["imagePullSecrets"] == values["image"]["pullSecrets"]
    assert values["extraVolumes"][0] in pod["volumes"]
    assert values["extraContainers"][0] in pod["containers"]
    assert pod["initContainers"][0] == values["extraInitContainers"][0]
    for key in ("nodeSelector", "tolerations", "affinity", "priorityClassName"):
        assert pod[key] == values[key]
    assert {key: pod["securityContext"][key] for key in values["podSecurity"]} == values["podSecurity"]
    [spread] = pod["topologySpreadConstraints"]
    assert (spread["topologyKey"], spread["whenUnsatisfiable"]) == ("kubernetes.io/hostname", "DoNotSchedule")
    assert pod["serviceAccountName"] == full.one("ServiceAccount")["metadata"]["name"] == "shop-sync-pods"
    assert pod["automountServiceAccountToken"] is True
    assert full.one("ServiceAccount")["metadata"]["annotations"] == values["serviceAccount"]["annotations"]
    assert values["podLabels"].items() <= full.pod["metadata"]["labels"].items()
    assert values["podAnnotations"].items() <= full.pod["metadata"]["annotations"].items()
    for manifest in full.manifests:
        assert manifest["metadata"]["labels"]["team"] == "data"
    assert full.one("PodDisruptionBudget")["spec"]["minAvailable"] == 0
    policy = full.one("NetworkPolicy")["spec"]
    assert policy["ingress"][0]["from"] == values["networkPolicy"]["scrapeFrom"]
    assert [one["port"] for one in policy["egress"][1]["ports"]] == values["networkPolicy"]["egressPorts"]
    assert policy["egress"][2:] == values["networkPolicy"]["extraEgress"]
    monitor = full.one("PodMonitor")
    assert monitor["metadata"]["labels"]["release"] == "prometheus"
    [endpoint] = monitor["spec"]["podMetricsEndpoints"]
    assert (endpoint["interval"], endpoint["scrapeTimeout"]) == ("15s", "5s")
    assert endpoint["relabelings"] == [{"targetLabel": "job", "replacement": "shop-sync"}]
    boards = [one for one in full.of("ConfigMap") if one["metadata"]["labels"].get("dashboards") == "yes"]
    assert len(boards) == 3
    assert {one["metadata"]["annotations"]["grafana_folder"] for one in boards} == {"Orders"}
    for board in boards:
        [text] = board["data"].values()
        assert values["monitoring"]["runbookUrl"] in json.dumps(json.loads(text))
        assert "@" not in text
    assert 'le=~\\"600([.]0)?\\"' in full.text
    assert "(1 - 0.95)" in full.text
    assert full.one("ConfigMap", "-settings")["data"]["settings.yaml"].find("/etc/order-sync/mapping/shop.yaml") > 0
    assert full.pod["spec"]["volumes"][1]["configMap"]["name"] == "shop-mapping"
