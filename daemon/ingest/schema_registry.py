"""The Schema Registry: gives the schemas of Avro messages by their id.

A registry that is away, or refuses us, is a state like a broker that is away: BrokerUnavailable, ingest pauses and
tries again. Only an id that the registry answers it does not have makes a reject.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from daemon.errors import BrokerUnavailable, SettingsError
from daemon.settings import Kafka, Secret

if TYPE_CHECKING:
    from confluent_kafka.schema_registry import SchemaRegistryClient

    from daemon.ingest.avro import ConfluentAvro, RegisteredSchema

_NOT_FOUND = 404
_NO_SUCH_SCHEMA = 40403
_PATIENCE = {"timeout": 5, "max.retries": 0}  # the loop pauses and tries again by itself, and keeps its group meanwhile


def avro_reader(settings: Kafka) -> ConfluentAvro | None:
    """The reader of Avro messages; None where no registry is set. Connects to nothing yet.

    Raises SettingsError where the extra `avro` is not installed or the registry's settings cannot be used.
    """
    if settings.schema_registry_url is None:
        return None
    try:
        from daemon.ingest.avro import ConfluentAvro
    except ImportError as error:
        raise _not_installed(error) from None
    return ConfluentAvro(SchemaRegistry(settings).schema)


class SchemaRegistry:
    """Looks schemas up by id, by Confluent's own client. What is found is asked for once: `ConfluentAvro` keeps it.

    So each look-up is a connection of its own, and reads the secrets anew.
    """

    def __init__(self, settings: Kafka) -> None:
        """Raises SettingsError; connects to nothing yet."""
        self._settings = settings
        with self._client():
            pass  # what cannot be used is told at start, not at the first message

    def schema(self, number: int) -> RegisteredSchema | None:
        """The schema of an id; None where the registry has none. Raises BrokerUnavailable and SettingsError."""
        from confluent_kafka.schema_registry import SchemaRegistryError

        from daemon.ingest.avro import RegisteredSchema

        with self._client() as client:
            try:
                found = client.get_schema(number)
            except SchemaRegistryError as error:
                if error.http_status_code == _NOT_FOUND and error.error_code == _NO_SUCH_SCHEMA:
                    return None
                raise self._away(number, f"HTTP {error.http_status_code}: {error.error_message}") from None
            except Exception as error:  # noqa: BLE001 - whatever its HTTP and OAuth libraries raise, there is no answer
                raise self._away(number, f"{type(error).__name__}: {error}") from None
        return RegisteredSchema(found.schema_type or "AVRO", found.schema_str or "", bool(found.references))

    @staticmethod
    def _away(number: int, why: str) -> BrokerUnavailable:
        return BrokerUnavailable(
            f"the Schema Registry at kafka.schema_registry_url does not give schema {number} ({why[:300]}); "
            "see that it runs and lets us read"
        )

    def _client(self) -> SchemaRegistryClient:
        try:
            from confluent_kafka.schema_registry import SchemaRegistryClient
        except ImportError as error:
            raise _not_installed(error) from None
        secret = self._settings.schema_registry_secret_properties
        secrets = {name: Secret(variable).read() for name, variable in secret.items()}
        properties: dict[str, Any] = {**_PATIENCE, **self._settings.schema_registry_properties, **secrets}
        try:
            return SchemaRegistryClient({"url": self._settings.schema_registry_url, **properties})
        except (ValueError, TypeError, OSError) as error:
            raise SettingsError(f"kafka.schema_registry_properties: {error}; see Confluent's Python client") from None


def _not_installed(error: ImportError) -> SettingsError:
    return SettingsError(
        f"kafka.schema_registry_url: Avro needs the extra northbeam-order-sync[avro] ({error.name} is missing); "
        "install it, or remove the key"
    )
