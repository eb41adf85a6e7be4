"""Where this member's partitions stand: which of them are read on, from where, and which stand still for a gap."""

from __future__ import annotations

import time
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass

import structlog

from daemon.ingest.batch import PartitionState
from daemon.ingest.cluster import Picture
from daemon.ingest.gaps import Halt, HaltReason, Log, Stand, gap, halt_of, recreated
from daemon.ingest.halts import Halts
from daemon.ingest.kafka import KafkaSource, Partition
from daemon.mapping.structure import Source
from daemon.state.ingest_store import IngestStore, Position, TopicPartition

log = structlog.get_logger()

READ_SECS = 10.0  # how often it is written down that partitions are read to their end


@dataclass(frozen=True, slots=True)
class Known:
    """What a look and the state say together of all partitions of the mapped topics that Kafka shows.

    `stored` lacks partitions of topics that were recreated.
    """

    picture: Picture
    named: Mapping[Partition, TopicPartition]
    stored: Mapping[Partition, Position]

    def ends(self, without: Container[str] = ()) -> dict[TopicPartition, int]:
        """The end of each partition that can be read on and is not at its end; none of the topics in `without`."""
        ends = self.picture.ends
        return {
            self.named[name]: ends[name]
            for name in self.stored
            if name in ends and name[0] not in without and not self.at_end(name)
        }

    def at_end(self, partition: Partition) -> bool:
        """Whether nothing of a partition is left to be read; a partition at its beginning may be empty."""
        return max(0, self.stored[partition].next_offset) >= self.picture.ends[partition]


def known(picture: Picture, store: IngestStore) -> Known:
    """Ask the state about the partitions of a picture. Raises StateUnavailable and Superseded."""
    named = {
        (name, number): TopicPartition(name, topic.topic_id, number)
        for name, topic in picture.topics.items()
        for number in topic.partitions
    }
    positions = store.positions(named.values())
    stored = {name: positions[partition] for name, partition in named.items() if partition in positions}
    return Known(picture, named, stored)


class Standing:
    """Starts partitions and lets them stand still. Every call may raise StateUnavailable; it is then done again."""

    def __init__(
        self,
        sources: Mapping[str, Source],
        store: IngestStore,
        kafka: KafkaSource,
        halts: Halts,
        forget: Callable[[str | None], None],
        released: Callable[[str, HaltReason], None],
    ) -> None:
        """`sources` by topic. `forget` drops what is gathered of a topic (None: of all) and not folded yet;
        `released` is told of topics that were halted for a reason and go on.
        """
        self._sources = sources
        self._store = store
        self._kafka = kafka
        self._halts = halts
        self._forget = forget
        self._released = released
        self._refusals: dict[Partition, list[int]] = {}  # where the state stood at the last two
        self._absent: set[Partition] = set()  # a recreated topic has fewer, and the group does not know yet
        self._started = False
        self._note_at = 0.0
        self.partitions: dict[Partition, PartitionState] = {}
        """Those that are read."""
        self.positions: Mapping[Partition, Position] = {}
        """Where the partitions of the mapped topics stood when last asked, also those that stand still."""

    @property
    def mine(self) -> set[Partition]:
        """All partitions that the group gave to this member."""
        return self._kafka.waiting | self._kafka.assigned

    def unsettled(self) -> bool:
        """Whether partitions wait that no halt holds and that Kafka has."""
        return any(name[0] not in self._halts and name not in self._absent for name in self._kafka.waiting)

    def restart(self, topic: str | None = None) -> None:
        """Nothing gathered of this topic (None: of any) counts; its partitions wait until they are settled anew."""
        self._kafka.restart(topic)
        self._forget(topic)
        for name in [name for name in self.partitions if topic in (None, name[0])]:
            del self.partitions[name]

    def refuse(self, partition: Partition) -> None:
        """Kafka does not have the offset that was to be fetched next: go back to where the state stands.

        That this one is not there either is certain only once it is refused too.
        """
        state = self.partitions.get(partition)
        if state is not None:
            self._refusals[partition] = [*self._refusals.get(partition, []), state.position.next_offset][-2:]
        self.restart(partition[0])

    def mark(self, topic: str, why: str | None) -> None:
        """Write down that the started partitions of a topic stand still although nothing is lost, or go on (None)."""
        self._store.halt([state.position.origin for name, state in self.partitions.items() if name[0] == topic], why)

    def settle(self, now: Known) -> bool:
        """Judge every partition of this member anew: start, leave, or halt its topic. Whether any was started."""
        self._started = False
        self.positions = now.stored
        mine = self.mine
        self._halts.keep({topic for topic, _ in mine})
        self._refusals = {name: offsets for name, offsets in self._refusals.items() if name in mine}
        self._absent = {name for name in mine - now.named.keys() if name[0] in now.picture.topics}
        if moved := self._moved(now):
            if moved & now.stored.keys():
                log.warning("positions were moved meanwhile, going on from where they stand now")
            self.restart()
        startable: set[Partition] = set()
        for topic in sorted({topic for topic, _ in mine} & now.picture.topics.keys()):
            startable |= self._settle(topic, {name for name in mine & now.named.keys() if name[0] == topic}, now)
        self._start(startable, now)
        self._halts.write(self._store)
        self._note_read(now)
        return self._started

    def halt_for_rejects(self, topic: str, why: str, partitions: set[Partition]) -> None:
        """Let a topic stand still; the partitions to blame are `partitions`."""
        named = {name: state.id for name, state in self.partitions.items() if name[0] == topic}
        positions = self._store.positions(named.values())
        stored = {name: positions[partition] for name, partition in named.items() if partition in positions}
        self._halts.begin(topic, Halt(HaltReason.REJECTS, why), {name: stored.get(name) for name in partitions}, stored)
        self.restart(topic)

    def _moved(self, now: Known) -> set[Partition]:
        """Partitions that are read and whose position is not where it was: a person, a rebuild or another member did
        it, or the topic was recreated.
        """
        moved = set()
        for name in self.partitions.keys() & now.named.keys():
            stored, at = now.stored.get(name), self.partitions[name].position
            if stored is None or (stored.origin, stored.next_offset) != (at.origin, at.next_offset):
                moved.add(name)
        return moved

    def _settle(self, topic: str, names: set[Partition], now: Known) -> set[Partition]:
        """Which of these partitions of one topic are to be started."""
        if topic in self._halts and self._halts.lasts(topic, now.stored):
            return set()
        halt, blamed = self._judge(topic, names, now)
        if halt is not None:
            seen = {name: now.stored.get(name) for name in blamed}
            self._halts.begin(topic, halt, seen, self._standing_still(names, now))
            self.restart(topic)
            for name in blamed:
                self._refusals.pop(name, None)
            return set()
        if topic in self._halts:
            self._released(topic, self._halts.end(topic))
        return {name for name in names & self._kafka.waiting if now.picture.log(name) is not None}

    def _judge(self, topic: str, names: set[Partition], now: Known) -> tuple[Halt | None, set[Partition]]:
        """The halt that the topic needs, if any, and the partitions to blame."""
        source = self._sources[topic].name
        if unknown := names - now.stored.keys():
            return recreated(topic, source), unknown
        now_ms = int(time.time() * 1000)
        gaps: dict[int, tuple[HaltReason, Log, Stand]] = {}
        for name in names:
            log_of = now.picture.log(name)
            if log_of is None:
                continue
            at = now.stored[name]
            if name in self.partitions:
                # What was fetched already may be gone from Kafka by now; what was not, Kafka will refuse.
                log_of = Log(0, log_of.end, log_of.keeps_deletes_ms)
            refused = self._refusals.get(name) == [at.next_offset] * 2
            stand = Stand(at.next_offset, at.read_ms, refused)
            if reason := gap(log_of, stand, now_ms):
                gaps[name[1]] = (reason, log_of, stand)
        return (halt_of(topic, source, gaps) if gaps else None), {(topic, number) for number in gaps}

    def _standing_still(self, names: set[Partition], now: Known) -> dict[Partition, Position]:
        """Positions to write a halt to: of a recreated topic, those of the incarnation before."""
        untold = {name: TopicPartition(name[0], "", name[1]) for name in names - now.stored.keys()}
        older = self._store.positions(untold.values()) if untold else {}
        return {name: now.stored.get(name) or older[untold[name]] for name in names}

    def _start(self, names: set[Partition], now: Known) -> None:
        if not names:
            return
        self._store.halt([now.stored[name].origin for name in names], None)  # what a process before this one wrote
        for name in names:
            self.partitions[name] = PartitionState(now.named[name], now.stored[name])
        self._kafka.start({name: now.stored[name].next_offset for name in names})
        self._started = True

    def _note_read(self, now: Known) -> None:
        if time.monotonic() < self._note_at:
            return
        at_end = [name for name in self.partitions if name in now.picture.ends and now.at_end(name)]
        if at_end:
            self._store.note_read({now.stored[name].origin: now.picture.ends[name] for name in at_end})
            self._note_at = time.monotonic() + READ_SECS
