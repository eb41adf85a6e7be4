"""The settings file: frozen, closed, explained in `config/reference.yaml`. Secrets never stand in it.

Every section is a frozen model that refuses unknown keys. Units are part of the names. A secret is named by the
environment variable that holds it (or, with `_FILE` appended, the file); see `Secret`.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic_core import ErrorDetails
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node

from daemon.errors import SettingsError

PRODUCTION_HOST = "api.northbeam.io"
UAT_URL = "https://api-uat.northbeam.io"

PREFIX = "ORDER_SYNC_"  # of every environment variable that is ours

Seconds = Annotated[float, Field(gt=0, le=30 * 86400)]
Count = Annotated[int, Field(ge=1)]


def _variable(value: str) -> str:
    if not re.fullmatch(r"[A-Z_][A-Z0-9_]*", value):
        raise ValueError("must be the name of an environment variable (A-Z, 0-9, _), not the secret itself")
    return value


Variable = Annotated[str, AfterValidator(_variable)]


class Section(BaseModel):
    """A closed, frozen part of the settings."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, hide_input_in_errors=True)


class Secret:
    """A secret that is read anew whenever its file changes, and never printed."""

    def __init__(self, name: str) -> None:
        self.name = name

    def read(self) -> str:
        """The secret's present value. Raises SettingsError where neither NAME nor NAME_FILE gives one."""
        value = os.environ.get(self.name)
        path = os.environ.get(self.name + "_FILE")
        if value and path:
            raise SettingsError(f"environment: both {self.name} and {self.name}_FILE are set; keep one of them")
        if path:
            try:
                value = Path(path).read_text(encoding="utf-8").strip()
            except OSError as error:
                raise SettingsError(
                    f"environment: {self.name}_FILE={path} cannot be read: {error.strerror}; mend path or file"
                ) from error
            except UnicodeDecodeError:
                raise SettingsError(f"environment: {self.name}_FILE={path} is not UTF-8 text; write it anew") from None
        if not value:
            raise SettingsError(
                f"environment: {self.name} is not set; set it, or {self.name}_FILE to a file that holds it"
            )
        if not value.isprintable():
            raise SettingsError(f"environment: {self.name} holds a line break or control character; write it anew")
        return value

    def __repr__(self) -> str:
        return f"Secret({self.name})"


class Kafka(Section):
    """The consumer. `properties` go to librdkafka as they are (SASL, TLS, MSK)."""

    bootstrap_servers: str = "localhost:9092"
    group_id: str = "order-sync"
    properties: dict[str, str | int | float | bool] = {}
    secret_properties: dict[str, Variable] = {}  # librdkafka property -> name of the environment variable
    batch_max_messages: Count = 5000
    batch_max_bytes: Count = 16_000_000
    batch_max_wait_ms: Count = 200
    topic_refresh_secs: Seconds = 30.0

    @field_validator("properties")
    @classmethod
    def _ours(cls, value: dict[str, Any]) -> dict[str, Any]:
        taken = {"group.id", "bootstrap.servers", "enable.auto.commit", "enable.auto.offset.store"}
        taken |= {"auto.offset.reset", "enable.partition.eof"}
        if clash := sorted(taken & value.keys()):
            raise ValueError(f"{', '.join(clash)} is set by order-sync itself; remove it")
        if secrets := sorted(
            name for name in value if name.endswith("password") or name == "sasl.oauthbearer.client.secret"
        ):
            raise ValueError(f"{', '.join(secrets)} is a secret; name its environment variable under secret_properties")
        return value


class Postgres(Section):
    """Where the state lives. `dsn` is a libpq connection string without a password."""

    dsn: str = "host=localhost dbname=order_sync"
    password_env: Variable | None = None
    schema_name: Annotated[str, Field(pattern=r"^[a-z_][a-z0-9_]{0,62}$")] = "order_sync"
    connect_timeout_secs: Count = 10
    statement_timeout_secs: Seconds = 60.0
    delivery_connections: Annotated[int, Field(ge=2, le=50)] = 4

    @field_validator("dsn")
    @classmethod
    def _no_password(cls, value: str) -> str:
        if "password=" in value or (value.startswith("postgres") and urlsplit(value).password):
            raise ValueError("the password does not belong in the file; name its environment variable in password_env")
        return value


class Ingest(Section):
    """From message to mirrored row."""

    live_age_secs: Seconds = 3600.0  # an older change goes into the backfill lane
    reject_budget: Annotated[int, Field(ge=0)] = 1000  # rejects per topic within reject_window_secs that halt the topic
    reject_window_secs: Seconds = 600.0
    reject_keep_days: Count = 30
    retry_initial_ms: Count = 200
    retry_max_secs: Seconds = 30.0

    @model_validator(mode="after")
    def _order(self) -> Ingest:
        if self.retry_max_secs * 1000 < self.retry_initial_ms:
            raise ValueError(
                f"retry_max_secs ({self.retry_max_secs:g}) must be at least retry_initial_ms ({self.retry_initial_ms})"
            )
        return self


class Debounce(Section):
    """When a changed order is due: `quiet_secs` after its last change, `max_wait_secs` after its first unsent one."""

    quiet_secs: Annotated[float, Field(ge=0)] = 60.0
    max_wait_secs: Annotated[float, Field(ge=0)] = 600.0

    @model_validator(mode="after")
    def _order(self) -> Debounce:
        if self.max_wait_secs < self.quiet_secs:
            raise ValueError(
                f"max_wait_secs ({self.max_wait_secs:g}) must be at least quiet_secs ({self.quiet_secs:g})"
            )
        return self


class Delivery(Section):
    """How requests are made. Windows, fences and leases are settings so that tests can run them scaled down."""

    max_orders_per_request: Annotated[int, Field(ge=1, le=1000)] = 1000
    max_request_bytes: Count = 4_000_000
    requests_in_flight: Annotated[int, Field(ge=1, le=16)] = 2
    budget_bytes: Annotated[int, Field(ge=1, le=30_000_000)] = 24_000_000  # the vendor takes 30 MB in 60 s
    budget_window_secs: Seconds = 60.0
    live_min_share: Annotated[float, Field(ge=0, le=1)] = 0.5
    backfill_min_share: Annotated[float, Field(ge=0, le=1)] = 0.1
    start_grace_secs: Seconds = 5.0
    request_timeout_secs: Seconds = 30.0  # total deadline of one POST
    connect_timeout_secs: Seconds = 10.0
    vendor_settle_secs: Seconds = 60.0
    resend_gap_secs: Annotated[float, Field(ge=0)] = 5.0
    lease_secs: Seconds = 90.0
    lease_renew_secs: Seconds = 15.0
    poll_interval_ms: Count = 500
    backoff_initial_secs: Seconds = 1.0
    backoff_max_secs: Seconds = 300.0
    circuit_failures: Count = 5  # transport failures in a row that open the circuit
    halt_probe_secs: Seconds = 60.0  # how often a halted destination is tried with one small batch
    quarantine_budget_orders: Count = 50
    waiting_recheck_secs: Seconds = 30.0
    waiting_max_secs: Seconds = 3600.0

    @property
    def fence_secs(self) -> float:
        """After this long an unanswered request can no longer land."""
        return self.start_grace_secs + self.request_timeout_secs + self.vendor_settle_secs

    @model_validator(mode="after")
    def _consistent(self) -> Delivery:
        if self.live_min_share + self.backfill_min_share > 1:
            raise ValueError("live_min_share + backfill_min_share must not exceed 1")
        if self.max_request_bytes > self.budget_bytes:
            raise ValueError(
                f"max_request_bytes ({self.max_request_bytes}) must not exceed budget_bytes ({self.budget_bytes})"
            )
        for low, high in (
            ("backoff_initial", "backoff_max"),
            ("waiting_recheck", "waiting_max"),
            ("connect_timeout", "request_timeout"),
        ):
            least, most = getattr(self, f"{low}_secs"), getattr(self, f"{high}_secs")
            if least > most:
                raise ValueError(f"{low}_secs ({least:g}) must not exceed {high}_secs ({most:g})")
        needed = self.start_grace_secs + self.request_timeout_secs + self.lease_renew_secs
        if self.lease_secs <= needed:
            raise ValueError(
                f"lease_secs ({self.lease_secs:g}) must exceed "
                f"start_grace_secs + request_timeout_secs + lease_renew_secs ({needed:g})"
            )
        return self


class Destination(Section):
    """One API key on one host. UAT unless told otherwise; the production host needs `live: true`."""

    base_url: str = UAT_URL
    client_id: Annotated[str, Field(min_length=1)]
    api_key_env: Variable = "ORDER_SYNC_API_KEY"
    live: bool = False
    sole_writer: bool = False

    @field_validator("base_url")
    @classmethod
    def _url(cls, value: str) -> str:
        parts = urlsplit(value)
        if (
            parts.scheme not in ("http", "https")
            or not parts.hostname
            or parts.path not in ("", "/")
            or parts.query
            or "@" in value
        ):
            raise ValueError(f"must be scheme and host alone, such as {UAT_URL}")
        host = parts.hostname.rstrip(
            "."
        )  # the same host, written so that the guard below and the identity see it as one
        if parts.scheme == "http" and (host == "northbeam.io" or host.endswith(".northbeam.io")):
            raise ValueError("must be https")
        name = f"[{host}]" if ":" in host else host
        return f"{parts.scheme}://{name}" + (f":{parts.port}" if parts.port else "")

    @model_validator(mode="after")
    def _live(self) -> Destination:
        production = urlsplit(self.base_url).hostname == PRODUCTION_HOST
        if production and not self.live:
            raise ValueError(f"{PRODUCTION_HOST} is production: set live: true to send there")
        if self.live and not production:
            raise ValueError(f"live: true is for {PRODUCTION_HOST} alone; {self.base_url} is not production")
        if self.live and not self.sole_writer:
            raise ValueError(
                "live: true needs sole_writer: true: stop whatever else sends these orders first (the last write wins)"
            )
        return self


class Http(Section):
    """The way out."""

    proxy: Annotated[str | None, Field(repr=False)] = None
    ca_bundle: Path | None = None


class Operate(Section):
    """Logs, metrics, health."""

    listen_host: str = "0.0.0.0"  # noqa: S104 - a pod is scraped and probed from outside
    listen_port: Annotated[int, Field(ge=0, le=65535)] = 9108
    log_format: Literal["json", "console"] = "json"
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    stall_secs: Seconds = 120.0  # a loop that has not turned for this long is not alive
    shutdown_secs: Seconds = 45.0


class Settings(Section):
    """Everything the daemon can be told. `mapping` is relative to the settings file."""

    mapping: Path
    kafka: Kafka = Kafka()
    postgres: Postgres = Postgres()
    ingest: Ingest = Ingest()
    debounce: Debounce = Debounce()
    delivery: Delivery = Delivery()
    destinations: Annotated[
        dict[Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,30}$")], Destination], Field(min_length=1)
    ]
    http: Http = Http()
    operate: Operate = Operate()

    @model_validator(mode="after")
    def _consistent(self) -> Settings:
        seen: dict[tuple[str, str, str], str] = {}
        for name, destination in self.destinations.items():
            for what, value in (("key", destination.api_key_env), ("client_id", destination.client_id)):
                other = seen.setdefault((destination.base_url, what, value), name)
                if other != name:
                    raise ValueError(
                        f"destinations.{other} and destinations.{name} share host and {what}: "
                        "budget and single flight belong to one of them; remove the other"
                    )
        drain = self.delivery.start_grace_secs + self.delivery.request_timeout_secs
        if self.operate.shutdown_secs < drain:
            raise ValueError(
                f"operate.shutdown_secs ({self.operate.shutdown_secs:g}) must be at least "
                f"delivery.start_grace_secs + delivery.request_timeout_secs ({drain:g})"
            )
        return self

    def secrets(self) -> Iterator[tuple[str, Secret]]:
        """Every secret that these settings name, with the key that names it."""
        for name, variable in self.kafka.secret_properties.items():
            yield f"kafka.secret_properties.{name}", Secret(variable)
        if self.postgres.password_env:
            yield "postgres.password_env", Secret(self.postgres.password_env)
        for name, destination in self.destinations.items():
            yield f"destinations.{name}.api_key_env", Secret(destination.api_key_env)


def load_settings(path: Path, environ: Mapping[str, str] | None = None) -> Settings:
    """Read and check the settings file and the names of our environment variables.

    Raises SettingsError with a line for each mistake: file, line, key, what is wrong, bound and cure. Relative paths
    in the file start from its folder.
    """
    try:
        text = path.read_text(encoding="utf-8")
        data = YAML(typ="safe", pure=True).load(text)
        tree = YAML(pure=True).compose(text)
    except OSError as error:
        raise SettingsError(
            f"{path}: cannot be read: {error.strerror}; name the file with --config or {PREFIX}CONFIG"
        ) from error
    except UnicodeDecodeError:
        raise SettingsError(f"{path}: is not UTF-8 text") from None
    except YAMLError as error:
        raise SettingsError(_not_yaml(path, error)) from None
    if not isinstance(data, dict):
        raise SettingsError(f"{path}: must be a mapping of sections, see config/reference.yaml")
    try:
        settings = Settings.model_validate(data)
    except ValidationError as error:
        problems = error.errors(include_url=False)
        raise SettingsError("\n".join(f"{path}:{_problem(problem, tree)}" for problem in problems)) from None
    _refuse_unknown_variables(settings, os.environ if environ is None else environ)
    http = settings.http
    if http.ca_bundle:
        http = http.model_copy(update={"ca_bundle": (path.parent / http.ca_bundle).resolve()})
    return settings.model_copy(update={"mapping": (path.parent / settings.mapping).resolve(), "http": http})


def _not_yaml(path: Path, error: YAMLError) -> str:
    """Without the excerpt that the parser adds: it may hold what should not be shown."""
    mark = error.problem_mark if isinstance(error, MarkedYAMLError) else None
    where = f"{path}:{mark.line + 1}:{mark.column + 1}" if mark else str(path)
    problem = str(getattr(error, "problem", None) or "it cannot be read").partition(" with value ")[0]
    return f"{where}: is not YAML: {problem}; mend the line"


# Where a person may have put a secret by mistake: the value is not repeated.
_HIDDEN = re.compile(r"(^|\.)(dsn|proxy|properties|secret_properties|base_url)(\.|$)|_env$")


def _problem(problem: ErrorDetails, tree: Node) -> str:
    location = [str(part) for part in problem["loc"] if part != "[key]"]
    where = ".".join(location) or "(file)"
    what = problem["msg"].removeprefix("Value error, ")
    if problem["type"] == "extra_forbidden":
        what = "unknown key" + _near(location[-1], _keys_beside(location), "config/reference.yaml lists the known ones")
    elif problem["type"] == "missing":
        what = "is required; config/reference.yaml shows it"
    elif isinstance(problem["input"], int | float | str) and not _HIDDEN.search(where):
        what = f"{what} (is {problem['input']!r:.60})"
    return f"{_line(tree, location)}: {where}: {what}"


def _line(tree: Node, location: Iterable[str]) -> int:
    """The line of the deepest key of `location` that stands in the file."""
    line = tree.start_mark.line if isinstance(tree, MappingNode) and not tree.value else 0
    for part in location:
        pairs = tree.value if isinstance(tree, MappingNode) else []
        found = next(((key, value) for key, value in pairs if key.value == part), None)
        if found is None:
            break
        line, tree = found[0].start_mark.line, found[1]
    return int(line) + 1


def _keys_beside(location: list[str]) -> list[str]:
    """The keys that the section of `location` knows."""
    model: type[BaseModel] = Settings
    for part in location[:-1]:
        if part not in model.model_fields:
            continue  # the name of a destination
        annotation = model.model_fields[part].annotation
        candidates = [annotation, *get_args(annotation)]
        model = next((c for c in candidates if isinstance(c, type) and issubclass(c, Section)), model)
    return list(model.model_fields)


def _near(name: str, known: Iterable[str], otherwise: str) -> str:
    # Without what they all share, which would make any two variables look alike.
    bare = {other.removeprefix(PREFIX): other for other in known}
    close = difflib.get_close_matches(name.removeprefix(PREFIX), bare, n=1)
    return f"; did you mean {bare[close[0]]}?" if close else f"; {otherwise}"


# A pod gets these for every Service of its namespace, so also for one that is named order-sync.
_SERVICE_LINK = re.compile(r"ORDER_SYNC_(\w+_)?(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT(_\d+_(TCP|UDP|SCTP)(_\w+)?)?)")


def _refuse_unknown_variables(settings: Settings, environ: Mapping[str, str]) -> None:
    known = {f"{PREFIX}CONFIG"}
    for _, secret in settings.secrets():
        known |= {secret.name, f"{secret.name}_FILE"}
    ours = (name for name in environ if name.startswith(PREFIX) and not name.startswith(f"{PREFIX}TEST_"))
    if unknown := sorted(name for name in ours if name not in known and not _SERVICE_LINK.fullmatch(name)):
        cure = "unset it, or name it in the settings file"
        raise SettingsError(
            "\n".join(
                f"environment: {name}: the settings do not name it{_near(name, sorted(known), cure)}"
                for name in unknown
            )
        )
