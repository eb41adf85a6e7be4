"""What Kafka and the connector may make of one recording: any order between partitions, and everything again."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

from daemon.ingest.change import Message


@dataclass(slots=True)
class Copy(Message):
    """A message that the connector sent once more."""

    original: Message


@dataclass(frozen=True, slots=True)
class Rewind:
    """A partition's position is set back, as by `order-sync position reset`."""

    topic: str
    partition: int
    offset: int


Step: TypeAlias = "Message | Rewind"
Part: TypeAlias = "Sequence[Step]"


class Again(StrEnum):
    """How messages come a second time."""

    SENT_AGAIN = "sent again"  # by a connector that restarted: at new offsets of the same partition
    ELSEWHERE = "elsewhere"  # by a connector that restarted when the topic had got more partitions: under a new origin
    READ_AGAIN = "read again"  # the position was reset: the same messages at the same offsets


def by_partition(messages: Iterable[Message]) -> list[list[Message]]:
    """The messages of each partition, in offset order."""
    parts: dict[tuple[str, int], list[Message]] = defaultdict(list)
    for message in messages:
        parts[message.topic, message.partition].append(message)
    return [parts[name] for name in sorted(parts)]


def interleaved(parts: Iterable[Part], lots: random.Random) -> list[Step]:
    """A random order of all steps that keeps the order within each partition.

    Evenly mixed; or each partition at a pace of its own, some far ahead of others, as after a long absence; or one
    partition after the other.
    """
    paces: Callable[[], float] = lots.choice((lambda: 1.0, lambda: lots.choice((0.2, 1.0, 5.0)), lambda: 0.0))
    timed: list[tuple[float, int, Step]] = []
    for number, part in enumerate(parts):
        pace, start = paces(), lots.random()
        times = sorted(lots.random() ** pace if pace else start for _ in part)
        timed += [(time, number, step) for time, step in zip(times, part, strict=True)]
    timed.sort(key=lambda entry: entry[:2])
    return [step for _, _, step in timed]


def twice(part: Sequence[Message], how: Again, lots: random.Random) -> list[Step]:
    """One partition's messages, each delivered at least twice: again and again, all that came since some earlier one.

    Each time the repetition is read once what it repeats has been read.
    """
    made: list[list[Step]] = [[]]
    done = 0
    while done < len(part):
        reached = done + lots.randint(1, len(part) - done)
        back = lots.randint(0, done)
        made[-1] += _sent(part[done:reached], made, how)
        if how is Again.READ_AGAIN:
            made[-1].append(Rewind(part[back].topic, part[back].partition, part[back].offset))
        elif how is Again.ELSEWHERE:
            made.append([])
        made[-1] += _sent(part[back:reached], made, how)
        done = reached
    return [step for steps in made for step in steps]


def _sent(messages: Sequence[Message], made: Sequence[Part], how: Again) -> list[Step]:
    if how is Again.READ_AGAIN:
        return list(messages)
    partition, first = messages[0].partition + 100 * (len(made) - 1), len(made[-1])
    return [
        Copy(m.topic, partition, first + n, m.timestamp_ms, m.key, m.value, m.headers, m)
        for n, m in enumerate(messages)
    ]
