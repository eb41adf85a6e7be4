"""The settings file: what is refused, and how it is said."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from daemon.errors import SettingsError
from daemon.settings import Destination, Settings
from daemon.settings_file import load_settings

MINIMAL = """\
mapping: mapping.yaml
destinations:
  main: {client_id: c}
"""

Write = Callable[[str], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Puts a text into a settings file."""

    def _write(text: str) -> Path:
        path = tmp_path / "order-sync.yaml"
        path.write_text(text)
        return path

    return _write


def refusal(path: Path, **environ: str) -> str:
    """What loading says, without the file's folder."""
    with pytest.raises(SettingsError) as caught:
        load_settings(path, environ)
    return str(caught.value).replace(f"{path.parent}/", "")


def test_minimal_file_takes_every_default(write: Write) -> None:
    """A mapping and one destination are enough, and the destination is the vendor's UAT host."""
    settings = load_settings(write(MINIMAL), {})
    assert settings.destinations["main"].base_url == "https://api-uat.northbeam.io"
    assert settings.delivery.fence_secs == pytest.approx(95)


def test_paths_start_from_the_settings_file(write: Write) -> None:
    """Mapping and CA bundle are looked for beside the settings file, wherever the process runs."""
    path = write(MINIMAL + "http: {ca_bundle: tls/ca.pem}\n")
    settings = load_settings(path, {})
    assert settings.mapping == path.parent / "mapping.yaml"
    assert settings.http.ca_bundle == path.parent / "tls" / "ca.pem"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            MINIMAL + "kafka:\n  batch_max_mesages: 5\n",
            "order-sync.yaml:5: kafka.batch_max_mesages: unknown key; did you mean batch_max_messages?",
        ),
        (MINIMAL + "kafak: {}\n", "order-sync.yaml:4: kafak: unknown key; did you mean kafka?"),
        (
            MINIMAL.replace("client_id: c", "client_id: c, nonsense: x"),
            "order-sync.yaml:3: destinations.main.nonsense: unknown key; config/reference.yaml lists the known ones",
        ),
        (
            MINIMAL + "delivery:\n\n  max_orders_per_request: 1001\n",
            "order-sync.yaml:6: delivery.max_orders_per_request: Input should be less than or equal to 1000 (is 1001)",
        ),
        (
            MINIMAL + "operate: {log_level: verbose}\n",
            (
                "order-sync.yaml:4: operate.log_level: "
                "Input should be 'debug', 'info', 'warning' or 'error' (is 'verbose')"
            ),
        ),
        ("mapping: m.yaml\n", "order-sync.yaml:1: destinations: is required; config/reference.yaml shows it"),
        (
            MINIMAL + "debounce: {quiet_secs: 20, max_wait_secs: 10}\n",
            "order-sync.yaml:4: debounce: max_wait_secs (10) must be at least quiet_secs (20)",
        ),
        (
            MINIMAL + "delivery: {lease_secs: 40}\n",
            (
                "order-sync.yaml:4: delivery: lease_secs (40) must exceed "
                "start_grace_secs + request_timeout_secs + lease_renew_secs (50)"
            ),
        ),
        (
            MINIMAL + "delivery: {backoff_initial_secs: 400}\n",
            "order-sync.yaml:4: delivery: backoff_initial_secs (400) must not exceed backoff_max_secs (300)",
        ),
        (
            MINIMAL + "delivery: {max_request_bytes: 25000000}\n",
            "order-sync.yaml:4: delivery: max_request_bytes (25000000) must not exceed budget_bytes (24000000)",
        ),
        (
            MINIMAL.rstrip("}\n") + ", live_since: 2026-01-01T00:00:00}\n",
            (
                "order-sync.yaml:3: destinations.main.live_since: must be a date such as 2026-01-31 or a time with its "
                "zone such as 2026-01-31T08:00:00Z; this time has no zone"
            ),
        ),
        (
            MINIMAL.rstrip("}\n") + ", live_since: never}\n",
            (
                "order-sync.yaml:3: destinations.main.live_since: must be a date such as 2026-01-31 or a time with its "
                "zone such as 2026-01-31T08:00:00Z (is 'never')"
            ),
        ),
        (
            MINIMAL + "operate: {shutdown_secs: 20}\n",
            (
                "order-sync.yaml:1: (file): operate.shutdown_secs (20) must be at least "
                "delivery.start_grace_secs + delivery.request_timeout_secs (35)"
            ),
        ),
        (
            MINIMAL + "kafka: {properties: {group.id: x}}\n",
            "order-sync.yaml:4: kafka.properties: group.id is set by order-sync itself; remove it",
        ),
        (
            MINIMAL + "  other: {client_id: d}\n",
            (
                "order-sync.yaml:1: (file): destinations.main and destinations.other share host and key: "
                "budget and single flight belong to one of them; remove the other"
            ),
        ),
        (
            MINIMAL + "  other: {client_id: c, api_key_env: OTHER}\n",
            (
                "order-sync.yaml:1: (file): destinations.main and destinations.other share host and client_id: "
                "budget and single flight belong to one of them; remove the other"
            ),
        ),
        ("- a\n", "order-sync.yaml: must be a mapping of sections, see config/reference.yaml"),
        ("", "order-sync.yaml: must be a mapping of sections, see config/reference.yaml"),
        (
            "mapping: a\nmapping: b\n",
            'order-sync.yaml:2:1: is not YAML: found duplicate key "mapping"; mend the line',
        ),
    ],
)
def test_each_mistake_names_place_value_and_cure(write: Write, text: str, said: str) -> None:
    """File, line, key, what is wrong, the bound where there is one, and the cure."""
    assert refusal(write(text)) == said


def test_all_mistakes_are_said_at_once(write: Write) -> None:
    """One line for each mistake, not only the first."""
    lines = refusal(write(MINIMAL + "kafka: {group: x}\noperate: {listen_port: 70000}\n")).splitlines()
    assert [line.split(": ")[1] for line in lines] == ["kafka.group", "operate.listen_port"]


def test_missing_file_says_how_to_name_it(tmp_path: Path) -> None:
    """The cure is the option and the variable."""
    path = tmp_path / "no.yaml"
    assert (
        refusal(path)
        == "no.yaml: cannot be read: No such file or directory; name the file with --config or ORDER_SYNC_CONFIG"
    )


def test_broken_yaml_is_placed_without_its_text(write: Write) -> None:
    """Line and column are named; the line itself may hold a secret and is not repeated."""
    said = refusal(write("mapping: m\npostgres:\n  dsn: 'hunter2\n"))
    assert said.startswith("order-sync.yaml:")
    assert "is not YAML" in said
    assert "hunter2" not in said


@pytest.mark.parametrize(
    "text",
    [
        "postgres: {dsn: 'host=db password=hunter2'}",
        "postgres: {dsn: 'postgresql://u:hunter2@db/x'}",
        "postgres: {password_env: hunter2}",
        "postgres: {password: hunter2}",
        "kafka: {properties: {sasl.password: hunter2}}",
        "kafka: {secret_properties: {sasl.password: hunter2}}",
        "kafka: {properties: {a: [hunter2]}}",
        "http: {proxy: [hunter2]}",
    ],
)
def test_a_secret_in_the_file_is_refused_and_not_repeated(write: Write, text: str) -> None:
    """Whatever is put where a secret might be is not shown in the refusal."""
    assert "hunter2" not in refusal(write(MINIMAL + text + "\n"))


def test_key_in_the_url_is_refused_and_not_repeated(write: Write) -> None:
    """User and password do not belong in base_url."""
    said = refusal(write(MINIMAL.replace("client_id: c", "client_id: c, base_url: 'https://u:hunter2@h'")))
    assert said.endswith("must be scheme and host alone, such as https://api-uat.northbeam.io")
    assert "hunter2" not in said


@pytest.mark.parametrize(
    ("base_url", "more", "said"),
    [
        ("https://api.northbeam.io", {}, "set live: true"),
        ("https://API.northbeam.io.", {}, "set live: true"),
        ("https://api.northbeam.io:443", {}, "set live: true"),
        ("https://api.northbeam.io", {"live": True}, "needs sole_writer: true"),
        ("https://api-uat.northbeam.io", {"live": True, "sole_writer": True}, "is not production"),
        ("http://api.northbeam.io", {"live": True, "sole_writer": True}, "must be https"),
        ("https://api-uat.northbeam.io/v2/orders", {}, "scheme and host alone"),
        ("api-uat.northbeam.io", {}, "scheme and host alone"),
    ],
)
def test_production_cannot_be_reached_by_accident(base_url: str, more: dict[str, bool], said: str) -> None:
    """However the production host is written, it needs `live` and `sole_writer`; and `live` means that host alone."""
    with pytest.raises(ValueError, match=said):
        Destination.model_validate({"base_url": base_url, "client_id": "c", **more})


def test_one_host_has_one_spelling() -> None:
    """The identity of a destination does not depend on case, a trailing dot or a trailing slash."""
    spellings = ("https://api-uat.northbeam.io", "https://API-UAT.northbeam.io./", "https://api-uat.northbeam.io/")
    assert {Destination(base_url=url, client_id="c").base_url for url in spellings} == {"https://api-uat.northbeam.io"}


def test_unknown_variables_are_refused_with_the_nearest_name(write: Write) -> None:
    """A misspelt variable of ours would be ignored in silence otherwise."""
    said = refusal(write(MINIMAL), ORDER_SYNC_APIKEY="x", ORDER_SYNC_QUIET="1", ORDER_SYNC_API_KEY="y")
    assert said.splitlines() == [
        "environment: ORDER_SYNC_APIKEY: the settings do not name it; did you mean ORDER_SYNC_API_KEY?",
        "environment: ORDER_SYNC_QUIET: the settings do not name it; unset it, or name it in the settings file",
    ]


def test_named_variables_service_links_and_test_variables_pass(write: Write) -> None:
    """What the settings name passes, also as a file; so does what a pod gets for a Service called order-sync."""
    text = (
        MINIMAL
        + "postgres: {password_env: ORDER_SYNC_PG}\nkafka: {secret_properties: {sasl.password: ORDER_SYNC_SASL}}\n"
    )
    names = [
        "ORDER_SYNC_CONFIG",
        "ORDER_SYNC_API_KEY_FILE",
        "ORDER_SYNC_PG",
        "ORDER_SYNC_SASL_FILE",
        "ORDER_SYNC_TEST_DSN",
        "ORDER_SYNC_SERVICE_HOST",
        "ORDER_SYNC_SERVICE_PORT_METRICS",
        "ORDER_SYNC_PORT",
        "ORDER_SYNC_PORT_9108_TCP_ADDR",
        "ORDER_SYNC_METRICS_PORT_9108_TCP",
        "PATH",
    ]
    assert isinstance(load_settings(write(text), dict.fromkeys(names, "x")), Settings)


def test_settings_are_frozen(write: Write) -> None:
    """Nothing can change a setting while the daemon runs."""
    settings = load_settings(write(MINIMAL), {})
    with pytest.raises(ValueError, match="frozen"):
        settings.kafka.group_id = "x"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1970-01-01", datetime(1970, 1, 1, tzinfo=UTC)),
        ("'2026-01-31'", datetime(2026, 1, 31, tzinfo=UTC)),
        ("2026-01-31T10:00:00+02:00", datetime(2026, 1, 31, 8, tzinfo=UTC)),
        ("'2026-01-31T08:00:00Z'", datetime(2026, 1, 31, 8, tzinfo=UTC)),
    ],
)
def test_live_since_is_a_date_or_a_time_with_its_zone(write: Write, text: str, expected: datetime) -> None:
    """A date is its beginning in UTC."""
    settings = load_settings(write(MINIMAL.rstrip("}\n") + f", live_since: {text}}}\n"))
    assert settings.destinations["main"].live_since == expected


@pytest.mark.parametrize(("text", "mode"), [("off", "off"), ("false", "off"), ("shadow", "shadow"), ("true", "on")])
def test_delivery_is_the_same_in_either_yaml(write: Write, text: str, mode: str) -> None:
    """YAML 1.1, through which charts pass, makes booleans of on and off."""
    assert load_settings(write(MINIMAL.rstrip("}\n") + f", delivery: {text}}}\n")).destinations["main"].delivery == mode


def test_shadow_needs_no_sole_writer(write: Write) -> None:
    """To see what would be sent while something else still sends is what it is for."""
    live = MINIMAL.rstrip("}\n") + ", base_url: 'https://api.northbeam.io', live: true, delivery: "
    assert load_settings(write(live + "shadow}\n")).destinations["main"].live
    assert "needs sole_writer: true" in refusal(write(live + "on}\n"))
