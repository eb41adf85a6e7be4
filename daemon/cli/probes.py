"""Short questions to Kafka and to the API's host, for `check` and `status`. Each ends within about `PROBE_SECS`.

A question that fails raises `ProbeFailed`, with what was found and its cure.
"""

from __future__ import annotations

import contextlib
import logging
import ssl
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
from confluent_kafka import KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined]  # its stub forgets it

from daemon.ingest.kafka import client_properties
from daemon.settings import Destination, Http, Kafka

PROBE_SECS = 5
API_PATH = "/v2/orders"
# One day without orders, so that the answer is small whoever asks.
QUIET_DAY = {"start_date": "2000-01-01", "end_date": "2000-01-02"}


class ProbeFailed(Exception):  # noqa: N818 - it is an answer
    """What was found, and what to do about it."""

    def __init__(self, what: str, cure: str) -> None:
        self.what, self.cure = what, cure
        super().__init__(f"{what}; {cure}")


@dataclass(frozen=True, slots=True)
class Cluster:
    """Brokers and the partition count of each topic."""

    brokers: int
    topics: dict[str, int]


class _Complaints(logging.Handler):
    """Keeps the last line that librdkafka wrote: it says why nothing answers."""

    def __init__(self) -> None:
        super().__init__()
        self.last = ""

    def emit(self, record: logging.LogRecord) -> None:
        # "[thrd:...]: host:port/bootstrap: why (after 1ms in state CONNECT)": the reason is what follows the address.
        text = record.getMessage().rpartition("]: ")[2].partition(" (after ")[0]
        if "brokers are down" not in text:
            self.last = text


@contextlib.contextmanager
def admin_client(settings: Kafka) -> Iterator[AdminClient]:
    """An admin client whose errors become ProbeFailed. Raises SettingsError where a secret is missing."""
    properties = client_properties(settings)
    complaints = _Complaints()
    logger = logging.Logger("librdkafka.probe")  # noqa: LOG001 - of no tree: what it hears is kept, not written
    logger.addHandler(complaints)
    where = f"Kafka {settings.bootstrap_servers}"
    try:
        admin = AdminClient(properties, logger=logger)
    except KafkaException as error:
        raise ProbeFailed(
            f"{where}: librdkafka refuses the properties: {error.args[0].str()}", "mend kafka.properties"
        ) from error
    try:
        yield admin
    except KafkaException as error:
        admin.poll(0)  # hands out the log lines
        found: KafkaError = error.args[0]
        reason = complaints.last or found.str()
        raise ProbeFailed(f"{where}: {reason}", _kafka_cure(settings)) from error


def _kafka_cure(settings: Kafka) -> str:
    protocol = str(settings.properties.get("security.protocol", "plaintext")).lower()
    cure = "start the broker, or mend kafka.bootstrap_servers"
    if "ssl" in protocol:
        cure += ", ssl.ca.location"
    if "sasl" in protocol:
        cure += ", sasl.mechanism, user or password"
    return cure if protocol != "plaintext" else f"{cure}; a broker with TLS or SASL needs security.protocol"


def cluster(settings: Kafka) -> Cluster:
    """What the brokers tell. Raises ProbeFailed."""
    with admin_client(settings) as admin:
        metadata = admin.list_topics(timeout=PROBE_SECS)
        topics = {name: len(topic.partitions) for name, topic in metadata.topics.items() if topic.error is None}
        return Cluster(len(metadata.brokers), topics)


def end_offsets(settings: Kafka, partitions: Iterable[tuple[str, int]]) -> dict[tuple[str, int], int]:
    """Where each (topic, partition) ends; those that are gone are left out. Raises ProbeFailed."""
    latest = OffsetSpec.latest()  # type: ignore[no-untyped-call]
    wanted = {TopicPartition(topic, partition): latest for topic, partition in partitions}
    if not wanted:
        return {}
    with admin_client(settings) as admin:
        known = admin.list_topics(timeout=PROBE_SECS).topics
        wanted = {at: spec for at, spec in wanted.items() if at.topic in known and known[at.topic].error is None}
        futures = admin.list_offsets(wanted, request_timeout=PROBE_SECS)
        ends: dict[tuple[str, int], int] = {}
        for at, future in futures.items():
            with contextlib.suppress(KafkaException):
                ends[at.topic, at.partition] = future.result(PROBE_SECS).offset
        return ends


def tls(ca_bundle: Path | None) -> ssl.SSLContext:
    """The trust that requests are made with, as in delivery. Raises ProbeFailed for a bundle that cannot be used."""
    if ca_bundle is None:
        return httpx.create_ssl_context(trust_env=False)
    where = f"http.ca_bundle: {ca_bundle}"
    try:
        return ssl.create_default_context(cafile=ca_bundle)
    except ssl.SSLError as error:
        raise ProbeFailed(f"{where} holds no PEM certificates", "write the CA's certificates there as PEM") from error
    except OSError as error:
        raise ProbeFailed(f"{where} cannot be read: {error.strerror}", "mend the path, or mount the file") from error


def ask_api(destination: Destination, http: Http, key: str) -> str:
    """One GET with the key, its answer unread. Returns what to say when all is well; raises ProbeFailed otherwise."""
    where = destination.base_url
    headers = {"Authorization": key, "Data-Client-ID": destination.client_id}
    try:
        with (
            httpx.Client(verify=tls(http.ca_bundle), proxy=http.proxy, timeout=PROBE_SECS, trust_env=False) as client,
            client.stream("GET", where + API_PATH, params=QUIET_DAY, headers=headers) as response,
        ):
            status = response.status_code
    except UnicodeEncodeError as error:
        raise ProbeFailed(
            f"{where}: API key or client id holds a character that no header can", "copy both anew from the dashboard"
        ) from error
    except httpx.ProxyError as error:
        raise ProbeFailed(f"{where}: the proxy refused: {type(error).__name__}", "mend http.proxy") from error
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise _unreachable(where, http, error) from error
    return _judge(where, destination, status)


def _unreachable(where: str, http: Http, error: Exception) -> ProbeFailed:
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return ProbeFailed(
                f"{where}: its certificate is not trusted: {cause.verify_message}",
                "set http.ca_bundle to the CA's certificates, as PEM",
            )
        cause = cause.__cause__ or cause.__context__
    through = " through http.proxy" if http.proxy else ""
    reason = str(error) or type(error).__name__
    return ProbeFailed(
        f"{where}: does not answer{through}: {reason}", "mend base_url, http.proxy, or the network policy of this place"
    )


def _judge(where: str, destination: Destination, status: int) -> str:
    said = f"{where}: answers {status}"
    if status in (401, 403):
        cure = f"{destination.api_key_env} must hold the key of client id {destination.client_id}, without Bearer"
        raise ProbeFailed(f"{said}: it refuses the key", cure)
    if status == httpx.codes.NOT_FOUND or 300 <= status < 400:
        raise ProbeFailed(f"{said} on {API_PATH}: this is not the Orders API", "mend base_url")
    if status >= 500 or status in (408, 429):
        raise ProbeFailed(
            f"{said}: it is there, but cannot serve now", "wait; the daemon keeps every order until it can"
        )
    return f"{where}: reachable, the key is accepted"
