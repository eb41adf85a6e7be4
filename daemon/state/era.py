"""Eras: the state went back to an earlier one of itself, and what it says of the vendor may have been overtaken.

A backup was restored, or a stand-by took over that lacked the last commits: positions, digests, requests and what was
ever attempted are older than what the vendor holds. Two things tell: the consumer group's positions in Kafka, which we
mirror there after each fold, lie ahead of everything that this state ever stood at; or the server is another one, or
writes on another timeline. Whoever sees it first begins a new era, in one transaction that ends every lease. In it

* a digest counts only where it was stored in this era, so that what is owed or changes is sent again;
* nothing is sent for one fence, and the byte budget is taken to be used up (`daemon.delivery.core.start`);
* all that Kafka has is read again before delivery goes on, and each order that this touches, like those that were owed
  when the state went back, counts as attempted.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import psycopg
import structlog
from psycopg_pool import AsyncConnectionPool

from daemon.settings import Postgres
from daemon.state.database import AsyncCursor, Cursor, Row, async_transaction, transaction
from daemon.state.queries import queries

log = structlog.get_logger()

SQL = queries("era.sql")

# What a managed server answers that keeps such things to itself.
_REFUSED = (psycopg.ProgrammingError, psycopg.NotSupportedError, psycopg.InternalError)


@dataclass(frozen=True, slots=True)
class Server:
    """Who the server is, as far as it tells: its system identifier, and the timeline on which it writes."""

    system: str | None = None
    timeline: str | None = None

    def parameters(self) -> dict[str, str | None]:
        """For the statements."""
        return {"system": self.system, "timeline": self.timeline}


@dataclass(frozen=True, slots=True)
class Era:
    """The present era. `secs` since it began, counting from the reading; `server`: as last seen.

    `installation` names this state in what it leaves in Kafka. `targeted`: it is noted how far Kafka has to be read
    again; `replaying`: it is not read again that far.
    """

    number: int
    installation: str
    secs: float
    cause: str
    targeted: bool = True
    replaying: bool = False
    server: Server = Server()
    begun: bool = False

    @classmethod
    def read(cls, row: Row) -> Era:
        """From a row of `present`."""
        number, installation, secs, cause, targeted, replaying, system, timeline = row
        return cls(number, installation, secs, cause, targeted, replaying, Server(system, timeline))


FIRST = Era(0, "", float("inf"), "the state was made")
"""The era of a state that never went back."""


@dataclass(frozen=True, slots=True)
class Mirrored:
    """Where the consumer group says that a partition stands. `by`: what was left there along with it."""

    offset: int
    by: str | None = None


def signature(era: Era, topic_id: str) -> str:
    """What is left in Kafka beside a mirrored position: whose it is, and of which incarnation of the topic."""
    return f"order-sync {era.installation} {topic_id}"


def other_server(era: Era, server: Server) -> str | None:
    """Why this server shows that the state went back; None where it is the one that was last seen."""
    known = era.server
    if known.system and server.system and known.system != server.system:
        return f"the server is another one: system identifier {server.system}, it was {known.system}"
    if known.timeline and server.timeline and known.timeline != server.timeline:
        return f"the server writes on timeline {server.timeline}, it was {known.timeline}"
    return None


def is_new(era: Era, server: Server) -> bool:
    """Whether the server tells what it did not tell before."""
    return bool((server.system and not era.server.system) or (server.timeline and not era.server.timeline))


Steps: TypeAlias = "Generator[tuple[str, Mapping[str, Any]], list[Row], Era]"
"""Statements of era.sql with their parameters, one after the other; the rows of each are sent in. Ends with the era."""


def following(server: Server) -> Steps:
    """The present era; a new one where the server is another one than last seen."""
    era = Era.read((yield "present", {})[0])
    if other_server(era, server) is None:
        if is_new(era, server):
            yield "note_server", server.parameters()
        return era
    yield "lock", {}
    era = Era.read((yield "present", {})[0])
    if (cause := other_server(era, server)) is None:
        return era
    return (yield from beginning(cause, server))


def going_ahead(mirrored: Mapping[str, list[Any]], server: Server) -> Steps:
    """The present era; a new one where a position that is mirrored in Kafka lies ahead of all that is known here.

    `mirrored` has the parallel lists `topics`, `topic_ids`, `partitions`, `mirrored` (offsets) and `ours` (whether this
    state left it there). One that is ahead while nobody has noted yet how far to read again belongs to the present era.
    """
    era = Era.read((yield "present", {})[0])
    if not (yield "ahead", mirrored):
        return era
    yield "lock", {}
    era = Era.read((yield "present", {})[0])
    if not (ahead := (yield "ahead", mirrored)):
        return era
    if era.targeted:
        topic, partition, offset, furthest = ahead[0]
        others = f" (and {len(ahead) - 1} more partitions)" if len(ahead) > 1 else ""
        era = yield from beginning(
            f"the group has read {topic} partition {partition} up to {offset}{others}; of this state nobody has read"
            f" beyond {max(furthest, 0)}",
            server,
        )
    yield "believe", mirrored
    return era


def replaying(ends: Mapping[str, list[Any]]) -> Steps:
    """The present era, in which all until these ends is read again. `topics`, `topic_ids`, `partitions`, `targets`."""
    era = Era.read((yield "present", {})[0])
    if era.targeted:
        return era
    yield "lock", {}
    if not Era.read((yield "present", {})[0]).targeted:
        yield "begin_replay", ends
        yield "note_targets", {}
    return Era.read((yield "present", {})[0])


def beginning(cause: str, server: Server) -> Steps:
    """A new era. The lock is held, and the evidence was looked at under it."""
    yield "begin", {"cause": cause, **server.parameters()}
    yield "end_leases", {}
    return replace(Era.read((yield "present", {})[0]), begun=True)


def carried_out(cursor: Cursor, steps: Steps) -> Era:
    """All of the steps, in the transaction that is under way."""
    rows: list[Row] | None = None
    try:
        while True:
            name, parameters = steps.send(rows) if rows is not None else next(steps)
            cursor.execute(SQL[name], parameters)
            rows = cursor.fetchall() if cursor.description else []
    except StopIteration as end:
        era: Era = end.value
        return era


async def carried_out_async(cursor: AsyncCursor, steps: Steps) -> Era:
    """The same."""
    rows: list[Row] | None = None
    try:
        while True:
            name, parameters = steps.send(rows) if rows is not None else next(steps)
            await cursor.execute(SQL[name], parameters)
            rows = await cursor.fetchall() if cursor.description else []
    except StopIteration as end:
        era: Era = end.value
        return era


def server_of(connection: psycopg.Connection[Row], settings: Postgres) -> Server:
    """Who the server is. Managed servers may keep it to themselves, which is said once."""

    def asked(name: str) -> str | None:
        try:
            with transaction(connection, settings) as cursor:
                cursor.execute(SQL[name])
                return _answer(cursor.fetchall())
        except _REFUSED as error:
            _note_refusal(name, error)
            return None

    return Server(asked("system_identifier"), asked("timeline"))


async def server_of_async(pool: AsyncConnectionPool[psycopg.AsyncConnection[Row]], settings: Postgres) -> Server:
    """The same."""

    async def asked(name: str) -> str | None:
        try:
            async with async_transaction(pool, settings) as cursor:
                await cursor.execute(SQL[name])
                return _answer(await cursor.fetchall())
        except _REFUSED as error:
            _note_refusal(name, error)
            return None

    return Server(await asked("system_identifier"), await asked("timeline"))


def _answer(rows: list[Row]) -> str | None:
    [(answer,)] = rows
    return answer and str(answer)


_said: set[str] = set()


def _note_refusal(name: str, error: psycopg.Error) -> None:
    if name not in _said:
        _said.add(name)
        log.warning("the server does not tell who it is", kept_back=name, error=type(error).__name__)


def tell(era: Era) -> None:
    """To be called once what began it is committed."""
    if era.begun:
        log.error("the state went back, a new era began", era=era.number, cause=era.cause)
