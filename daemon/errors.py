"""What can go wrong, sorted by what the caller does next.

OrderSyncError
├── RefuseToStart        a person has to change something; the process ends with exit code 2 and says what
│   ├── SettingsError        the settings file, an environment variable or a secret
│   ├── MappingError         the mapping file: names file, line, attribute and expression
│   ├── SchemaError          the database's schema is older or newer than this program
│   └── DestinationError     the name of a destination now stands for another host or client id
├── TryAgain             a part is away or slow; the loop waits and turns again, nothing is lost
│   ├── StateUnavailable     Postgres
│   │   └── StateContended       it ended one of two transactions that stood in each other's way: again, at once
│   ├── BrokerUnavailable    Kafka
│   └── ApiUnavailable       the Orders API, where a command reads it
├── StateRefused         Postgres never takes a value of this batch: find the message and reject it
├── PositionsMoved       another consumer moved our positions; roll back, re-read them, seek, go on
├── KafkaFatal           librdkafka's client cannot go on; the process ends, its successor does
├── Superseded           another mapping is in force now; this process ends in good order
└── LeaseLost            another process delivers to this destination now
"""

from __future__ import annotations


class OrderSyncError(Exception):
    """Root of every error this program raises on purpose. The message says place, cause and cure."""


class RefuseToStart(OrderSyncError):  # noqa: N818 - named for what the caller does next
    """Nothing was done; a person has to change something first."""


class SettingsError(RefuseToStart):
    """A setting, an environment variable or a secret cannot be used."""


class MappingError(RefuseToStart):
    """The mapping cannot be used. `problems` holds one text for each mistake found."""

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        super().__init__("\n".join(problems))


class SchemaError(RefuseToStart):
    """The database's schema does not fit this program; `order-sync migrate` or a newer image is the cure."""


class DestinationError(RefuseToStart):
    """A destination's identity (host, client id) changed under its name."""


class TryAgain(OrderSyncError):  # noqa: N818
    """A part is away for now. Whatever was under way had no effect."""


class StateUnavailable(TryAgain):
    """Postgres did not answer, or ended the transaction."""


class StateContended(StateUnavailable):
    """Postgres ended this transaction in favour of another one; it may be tried again at once."""


class BrokerUnavailable(TryAgain):
    """Kafka did not answer."""


class ApiUnavailable(TryAgain):
    """The Orders API did not answer a command, or not with what was asked for."""


class StateRefused(OrderSyncError):  # noqa: N818
    """Postgres never takes a value of this transaction, however often it is offered."""


class PositionsMoved(OrderSyncError):  # noqa: N818
    """A stored position is not what this consumer expected: the whole batch was rolled back."""


class KafkaFatal(OrderSyncError):  # noqa: N818
    """The Kafka client of this process can do nothing more."""


class Superseded(OrderSyncError):  # noqa: N818
    """Another mapping than this process's is in force now; what was under way had no effect."""


class LeaseLost(OrderSyncError):  # noqa: N818
    """This process does not lead the destination any more; nothing it holds may be settled by it."""
