"""An order management system, its connector and its Kafka, as far as the fold can tell: for the machine of the laws."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from fold_model import Name
from ingest_store_suite import LINEAGE, NOW_MS

from daemon.ingest.change import Change, Decoded, Kind, Message, Reject, RejectReason
from daemon.mapping.structure import Structure
from daemon.state.ingest_store import TopicPartition

PARTITIONS = 2
BIG = "big"  # the column that events leave out while it is untouched

_NOWHERE: dict[str, Any] = {"lineage": None, "position": None, "committed_ms": None}


@dataclass(slots=True)
class Event(Message):
    """A message that says itself what it decodes to, and, where it is spoilt, what it would be."""

    says: Change | Reject | None = None
    meant: Change | None = None

    @property
    def about(self) -> str:
        """The row's key."""
        return (self.key or b"").decode()


class Told:
    """A decoder of such messages."""

    def decode(self, message: Message) -> Decoded:
        """What the message says of itself."""
        assert isinstance(message, Event)
        assert message.says is not None
        return message.says


@dataclass
class World:
    """The rows of all tables, what was said of them in order, and the partitions that hold it."""

    structure: Structure
    rows: dict[Name, dict[str, Any]] = field(default_factory=dict)
    logs: dict[TopicPartition, list[Event]] = field(default_factory=dict)
    incarnations: dict[str, int] = field(default_factory=dict)
    renamed: set[tuple[str, str, str]] = field(default_factory=set)
    ghosts: set[Name] = field(default_factory=set)
    """Rows that are gone, though what would tell so went with their topic."""
    faded: set[str] = field(default_factory=set)
    """Sources of which compaction may have taken large values that later events leave out."""
    _said: list[Event] = field(default_factory=list)
    _ends: dict[TopicPartition, int] = field(default_factory=dict)
    _position: int = 1000
    _ticks: int = 0

    def partitions(self, source: str) -> list[TopicPartition]:
        """The partitions of a source's topic, of its present incarnation."""
        topic_id = str(self.incarnations.get(source, 0))
        return [TopicPartition(f"t.{source}", topic_id, number) for number in range(PARTITIONS)]

    def all_partitions(self) -> list[TopicPartition]:
        """Those of all sources."""
        return [partition for source in self.structure.sources for partition in self.partitions(source)]

    def save(self, name: Name, values: Mapping[str, Any], *, decodable: bool = True) -> None:
        """Insert or update a row. A large value that stays as it is, is left out of the event."""
        before = self.rows.get(name)
        self.ghosts.discard(name)
        self.rows[name] = {**(before or {}), **values}
        if before is None:
            self.rows[name].setdefault(BIG, None)
        untouched = before is not None and values.get(BIG, before[BIG]) == before[BIG] and before[BIG] is not None
        self._tick()
        image = {column: value for column, value in self.rows[name].items() if column != BIG or not untouched}
        change = self._change(name, Kind.UPSERT, columns=image, unavailable=(BIG,) if untouched else ())
        self._say(change, decodable=decodable)

    def remove(self, name: Name) -> None:
        """Delete a row."""
        del self.rows[name]
        self._tick()
        self._gone(name, None)

    def may_be_renamed(self, name: Name, key: str) -> bool:
        """Whether the row's key may change to this one: a free one, which never led to its own, in whatever lives.

        Else, read again from the middle, each of the two rows may stand for what the other left out, and which of
        its lives is meant nobody can tell.
        """
        led, new = {(name[0], key)}, {(name[0], key)}
        while new:
            new = {(source, to) for source, old, to in self.renamed if (source, old) in new} - led
            led |= new
        return (name[0], key) not in self.rows and name not in led and (*name, key) not in self.renamed

    def rename(self, name: Name, key: str) -> None:
        """Change a row's primary key."""
        source, old_key = name
        self.renamed.add((source, old_key, key))
        row = self.rows[source, key] = self.rows.pop(name)
        self._tick()
        self._gone(name, key)
        left_out = (BIG,) if row[BIG] is not None else ()
        image = {column: value for column, value in row.items() if column not in left_out}
        change = self._change((source, key), Kind.UPSERT, columns=image, unavailable=left_out, old_key=old_key)
        self._say(change)

    def snapshot(self, source: str, *, incremental: bool) -> None:
        """The connector reads all rows of a table."""
        where = _NOWHERE if incremental else {}
        for name, row in self.rows.items():
            if name[0] == source:
                self._say(self._change(name, Kind.UPSERT, columns=dict(row), snapshot=True, op="r", **where))

    def say_again(self, count: int) -> None:
        """The connector restarts where it was so many messages before."""
        for event in self._said[max(0, len(self._said) - count) :]:
            self._append(event)

    def compact(self, partition: TopicPartition) -> None:
        """Only the last message of each key stays, with its offset."""
        log = self.logs.get(partition, [])
        last = {event.key: event.offset for event in log}
        self.logs[partition] = [event for event in log if event.offset == last[event.key]]
        self.faded.add(partition.topic.removeprefix("t."))

    def recreate(self, source: str, positions: Mapping[TopicPartition, int]) -> None:
        """The topic is deleted and made anew, and filled by a snapshot; what was not read of it is gone."""
        for partition in self.partitions(source):
            unread = self.unread(partition, positions.get(partition, -1))
            self.ghosts |= {(source, event.about) for event in unread} - self.rows.keys()
            self.logs.pop(partition, None)
        self.incarnations[source] = self.incarnations.get(source, 0) + 1
        self._said = [event for event in self._said if event.topic != f"t.{source}"]
        self.snapshot(source, incremental=False)

    def unread(self, partition: TopicPartition, position: int) -> list[Event]:
        """What a consumer that stands there has not read."""
        return [event for event in self.logs.get(partition, []) if event.offset >= position]

    def _gone(self, name: Name, new_key: str | None) -> None:
        self._say(self._change(name, Kind.DELETE, op="d", new_key=new_key))
        self._say(self._change(name, Kind.TOMBSTONE, op="tombstone", **_NOWHERE))

    def _tick(self) -> None:
        """Positions always differ, commit times now and then."""
        self._position += 10
        self._ticks += 1

    def _change(self, name: Name, kind: Kind, **rest: Any) -> Change:
        given: dict[str, Any] = {
            "op": "u", "columns": {}, "unavailable": (), "lineage": LINEAGE, "position": (self._position,),
            "committed_ms": NOW_MS + self._ticks // 3, "snapshot": False,
        }  # fmt: skip
        message = Event(f"t.{name[0]}", 0, 0, NOW_MS, None, None, None)
        return Change(name[0], name[1], kind, message=message, **(given | rest))

    def _say(self, change: Change, *, decodable: bool = True) -> None:
        number = sum(change.key.encode()) % PARTITIONS
        value = None if change.kind is Kind.TOMBSTONE else b"{}"
        event = Event(f"t.{change.source}", number, 0, NOW_MS, change.key.encode(), value, None)
        event.says = change
        if not decodable:
            event.says, event.meant = Reject(RejectReason.BAD_VALUE, "spoilt", change.source, change.key, event), change
        self._said.append(event)
        self._append(event)

    def _append(self, event: Event) -> None:
        source = event.topic.removeprefix("t.")
        partition = self.partitions(source)[event.partition]
        offset = self._ends.get(partition, 0)
        self._ends[partition] = offset + 1
        written = replace(event, offset=offset)
        assert event.says is not None
        written.says = replace(event.says, message=written)
        written.meant = event.meant and replace(event.meant, message=written)
        self.logs.setdefault(partition, []).append(written)
