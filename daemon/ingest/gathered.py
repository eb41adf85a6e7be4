"""Messages that wait to be folded together, bounded by number, bytes and time."""

from __future__ import annotations

from dataclasses import dataclass, field

from daemon.ingest.change import Message
from daemon.ingest.kafka import Partition, Poll, message_size
from daemon.settings import Kafka


@dataclass(slots=True)
class Gathered:
    """Messages in order of consumption, and the ends of partitions behind them. Times are monotonic seconds.

    What a fold is under way with stays until that has ended: if it failed, all is as if it had not begun.
    """

    messages: list[Message] = field(default_factory=list)
    ends: dict[Partition, int] = field(default_factory=dict)
    size: int = 0
    since: float = 0.0
    part: int = 0  # how many messages to fold at once, where the whole could not be folded
    poison: str | None = None  # why the first message must be a reject although it can be decoded
    taken: int = 0  # how many messages, the first ones, a fold is under way with
    taken_ends: dict[Partition, int] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.messages or self.ends or self.taken_ends)

    @property
    def waiting(self) -> bool:
        """Whether there is something that no fold is under way with."""
        return len(self.messages) > self.taken or bool(self.ends)

    def take(self, poll: Poll, now: float) -> None:
        """Add what a poll brought."""
        if not self.waiting and (poll.messages or poll.ends):
            self.since = now
        self.messages += poll.messages
        self.size += poll.size
        self.ends.update(poll.ends)

    def full(self, limits: Kafka, now: float, *, busy: bool = False) -> bool:
        """Whether it is time to fold what waits: enough of it, old enough, or nothing more to come for now.

        `busy`: a fold is under way and has not ended. Only enough of it counts then.
        """
        count = len(self.messages) - self.taken
        if count >= limits.batch_max_messages or self.size >= limits.batch_max_bytes:
            return True
        if busy or not self.waiting:
            return False
        return (
            now - self.since >= limits.batch_max_wait_ms / 1000
            or {(m.topic, m.partition) for m in self.messages[self.taken :]} <= self.ends.keys()
        )

    def next_part(self) -> tuple[list[Message], dict[Partition, int]]:
        """What to fold in one transaction. Ends belong to the last part: offsets below them may be still to come."""
        waiting = len(self.messages) - self.taken
        size = min(self.part or waiting, waiting)
        return self.messages[self.taken : self.taken + size], self.ends if size == waiting else {}

    def begun(self, count: int) -> None:
        """A fold is under way with the next `count` messages, and with all ends if those are the last ones."""
        self.taken += count
        if self.taken == len(self.messages):
            self.taken_ends, self.ends, self.size = self.ends, {}, 0

    def folded(self, count: int) -> None:
        """The first `count` messages are folded, and the ends that were taken with them."""
        del self.messages[:count]
        self.taken, self.taken_ends = 0, {}
        self.poison, self.part = None, self.part * 2 if self.messages else 0

    def failed(self) -> None:
        """The fold under way had no effect: its messages wait again, to be folded by themselves at once."""
        if self.waiting:
            self.part = self.part or self.taken
        self.size = sum(message_size(message) for message in self.messages)
        self.ends = {**self.taken_ends, **self.ends}
        self.taken, self.taken_ends, self.since = 0, {}, 0.0

    def close_in(self, why: str) -> bool:
        """After a part that cannot be folded: try half of it; make a lone message a reject. False if that failed."""
        count = min(self.part or len(self.messages), len(self.messages))
        if count > 1:
            self.part = count // 2
            return True
        if count == 0 or self.poison is not None:
            return False
        self.part = 1  # more may come before it is tried
        self.poison = f"{why}; see the message's values against the mapping's keys, relations and types"
        return True

    def forget(self, topic: str | None) -> None:
        """Drop what belongs to a topic (None: all). No fold is under way."""
        if topic is None:
            self.clear()
            return
        self.messages = [message for message in self.messages if message.topic != topic]
        self.ends = {name: end for name, end in self.ends.items() if name[0] != topic}
        self.size = sum(message_size(message) for message in self.messages)
        self.part, self.poison = 0, None

    def clear(self) -> None:
        """Drop everything."""
        self.messages, self.ends, self.taken, self.taken_ends = [], {}, 0, {}
        self.size, self.part, self.poison = 0, 0, None
