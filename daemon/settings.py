"""The settings: frozen, closed, explained in `config/reference.yaml`. Secrets never stand in them.

Every section is a frozen model that refuses unknown keys. Units are part of the names. A secret is named by the
environment variable that holds it (or, with `_FILE` appended, the file); see `Secret`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from daemon.errors import SettingsError

PRODUCTION_HOST = "api.northbeam.io"
UAT_URL = "https://api-uat.northbeam.io"

Seconds = Annotated[float, Field(gt=0, le=30 * 86400)]
Count = Annotated[int, Field(ge=1)]


def _variable(value: str) -> str:
    if not re.fullmatch(r"[A-Z_][A-Z0-9_]*", value):
        raise ValueError("must be the name of an environment variable (A-Z, 0-9, _), not the secret itself")
    return value


Variable = Annotated[str, AfterValidator(_variable)]


def moment(value: object) -> datetime:
    """A date (its beginning in UTC) or a time with its zone. Raises ValueError where it is neither."""
    otherwise = "must be a date such as 2026-01-31 or a time with its zone such as 2026-01-31T08:00:00Z"
    if isinstance(value, str):
        try:
            value = date.fromisoformat(value) if len(value) <= len("2026-01-31") else datetime.fromisoformat(value)
        except ValueError:
            raise ValueError(otherwise) from None
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise ValueError(f"{otherwise}; this time has no zone")
        return value
    if isinstance(value, date):
        return datetime(value.year, value.month, value.day, tzinfo=UTC)
    raise ValueError(otherwise)


Moment = Annotated[datetime, BeforeValidator(moment)]


def _on_or_off(value: object) -> object:
    # YAML 1.1, through which a file may have come, makes booleans of these two.
    return {True: "on", False: "off"}[value] if isinstance(value, bool) else value


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


class PublicKey(Secret):
    """A key that everybody knows."""

    def __init__(self, value: str) -> None:
        super().__init__("the public key")
        self._value = value

    def read(self) -> str:
        return self._value


class Kafka(Section):
    """The consumer. `properties` go to librdkafka as they are (SASL, TLS, MSK)."""

    bootstrap_servers: str = "localhost:9092"
    group_id: str = "order-sync"
    properties: dict[str, str | int | float | bool] = {}
    secret_properties: dict[str, Variable] = {}  # librdkafka property -> name of the environment variable
    batch_max_messages: Count = 5000
    batch_max_bytes: Count = 4_000_000
    batch_max_wait_ms: Count = 200
    topic_refresh_secs: Seconds = 30.0
    schema_registry_url: str | None = None  # needs the extra `avro`
    schema_registry_properties: dict[str, str | int | float | bool] = {}  # of Confluent's client
    schema_registry_secret_properties: dict[str, Variable] = {}

    @field_validator("schema_registry_url")
    @classmethod
    def _registry(cls, value: str | None) -> str | None:
        for url in (value or "").split(",") if value is not None else ():
            parts = urlsplit(url.strip())
            if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc:
                raise ValueError(
                    "must be http(s) URLs, comma-separated, without user and password; name the environment variable "
                    "of basic.auth.user.info under schema_registry_secret_properties"
                )
        return value

    @field_validator("schema_registry_properties")
    @classmethod
    def _registry_properties(cls, value: dict[str, Any]) -> dict[str, Any]:
        if "url" in value:
            raise ValueError("url is schema_registry_url; remove it")
        secret = ("basic.auth.user.info", "ssl.key.password", "bearer.auth.token", "bearer.auth.client.secret")
        if secrets := sorted(value.keys() & set(secret)):
            raise ValueError(
                f"{', '.join(secrets)} is a secret; name its environment variable under "
                "schema_registry_secret_properties"
            )
        return value

    @field_validator("properties")
    @classmethod
    def _ours(cls, value: dict[str, Any]) -> dict[str, Any]:
        taken = {"group.id", "bootstrap.servers", "enable.auto.commit", "enable.auto.offset.store"}
        taken |= {"auto.offset.reset", "enable.partition.eof"}
        if "group.instance.id" in value:
            raise ValueError(
                "group.instance.id would be the same in every replica, which would fence each other; remove it"
            )
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
    gate_lag_secs: Seconds = 30.0  # a partition behind for longer holds delivery until it has caught up
    gate_max_secs: Seconds = 3600.0
    erase_key_env: Variable | None = None  # of the key by which erased customers are known again: `order-sync erase`

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
    poll_interval_ms: Count = 250
    backoff_initial_secs: Seconds = 1.0
    backoff_max_secs: Seconds = 300.0
    circuit_failures: Count = 5  # transport failures in a row that open the circuit
    halt_probe_secs: Seconds = 60.0  # how often a halted destination is tried with one small batch
    quarantine_budget_orders: Count = 50
    max_voids_per_hour: Annotated[int, Field(ge=0)] = 200  # orders that may go from a total to 0 without being asked
    waiting_recheck_secs: Seconds = 30.0
    waiting_max_secs: Seconds = 3600.0
    resend_on_new_mapping: bool = False
    request_keep_days: Count = 30  # what was sent when, for `show` and for audits

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


def _host(value: str) -> str:
    parts = urlsplit(value)
    if (
        parts.scheme not in ("http", "https")
        or not parts.hostname
        or parts.path not in ("", "/")
        or parts.query
        or "@" in value
    ):
        raise ValueError(f"must be scheme and host alone, such as {UAT_URL}")
    # The same host, written so that the guards below and the identity see it as one.
    host = parts.hostname.rstrip(".")
    if parts.scheme == "http" and (host == "northbeam.io" or host.endswith(".northbeam.io")):
        raise ValueError("must be https")
    name = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{name}" + (f":{parts.port}" if parts.port else "")


Host = Annotated[str, AfterValidator(_host)]


class Destination(Section):
    """One API key on one host. UAT unless told otherwise; the production host needs `live: true`."""

    base_url: Host = UAT_URL
    client_id: Annotated[str, Field(min_length=1)]
    api_key_env: Variable = "ORDER_SYNC_API_KEY"
    live: bool = False
    sole_writer: bool = False
    delivery: Annotated[Literal["off", "shadow", "on"], BeforeValidator(_on_or_off)] = "on"
    live_since: Moment | None = None  # orders placed from then on need no `backfill`; null: its first start

    @model_validator(mode="after")
    def _live(self) -> Destination:
        production = urlsplit(self.base_url).hostname == PRODUCTION_HOST
        if production and not self.live:
            raise ValueError(f"{PRODUCTION_HOST} is production: set live: true to send there")
        if self.live and not production:
            raise ValueError(f"live: true is for {PRODUCTION_HOST} alone; {self.base_url} is not production")
        if self.live and self.delivery == "on" and not self.sole_writer:
            raise ValueError(
                "live: true needs sole_writer: true: stop whatever else sends these orders first (the last write wins) "
                "or, until then, set delivery: shadow, which shows what would be sent"
            )
        return self


class Uat(Section):
    """Where `order-sync uat` posts test orders. Without a key of its own as the vendor's public test account."""

    base_url: Host = UAT_URL
    client_id: Annotated[str, Field(min_length=1)] = "test"
    api_key_env: Variable | None = None

    @model_validator(mode="after")
    def _no_production(self) -> Uat:
        if urlsplit(self.base_url).hostname == PRODUCTION_HOST:
            raise ValueError(f"{PRODUCTION_HOST} is production: test orders would count there; use {UAT_URL}")
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
    action_keep_days: Count = 365  # what operators did


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
    uat: Uat = Uat()
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
        for name, variable in self.kafka.schema_registry_secret_properties.items():
            yield f"kafka.schema_registry_secret_properties.{name}", Secret(variable)
        if self.postgres.password_env:
            yield "postgres.password_env", Secret(self.postgres.password_env)
        if self.ingest.erase_key_env:
            yield "ingest.erase_key_env", Secret(self.ingest.erase_key_env)
        for name, destination in self.destinations.items():
            yield f"destinations.{name}.api_key_env", Secret(destination.api_key_env)
        if self.uat.api_key_env:
            yield "uat.api_key_env", Secret(self.uat.api_key_env)
