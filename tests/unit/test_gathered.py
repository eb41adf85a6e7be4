"""What waits to be folded: when it is enough, and how it is taken apart."""

from __future__ import annotations

import pytest

from daemon.ingest.change import Message
from daemon.ingest.gathered import Gathered
from daemon.ingest.kafka import Poll, message_size
from daemon.settings import Kafka

LIMITS = Kafka(batch_max_messages=5, batch_max_bytes=1000, batch_max_wait_ms=200)


def message(topic: str, offset: int, size: int = 10) -> Message:
    return Message(topic, 0, offset, None, None, b"x" * size, None)


def poll(*messages: Message, ends: dict[tuple[str, int], int] | None = None) -> Poll:
    return Poll(list(messages), ends or {}, size=sum(map(message_size, messages)))


@pytest.mark.parametrize(
    ("brought", "now", "full"),
    [
        pytest.param(poll(), 9.0, False, id="nothing"),
        pytest.param(poll(message("a", 0)), 0.1, False, id="one-young-message"),
        pytest.param(poll(message("a", 0)), 0.2, True, id="old-enough"),
        pytest.param(poll(*(message("a", n) for n in range(5))), 0.0, True, id="enough-messages"),
        pytest.param(poll(message("a", 0, 1000)), 0.0, True, id="enough-bytes"),
        pytest.param(poll(message("a", 0), ends={("a", 0): 1}), 0.0, True, id="nothing-more-to-come"),
        pytest.param(poll(message("a", 0), message("b", 0), ends={("a", 0): 1}), 0.0, False, id="more-of-another"),
        pytest.param(poll(ends={("a", 0): 7}), 0.0, True, id="an-end-alone"),
    ],
)
def test_when_it_is_time_to_fold(brought: Poll, now: float, full: bool) -> None:
    """By number, bytes, age, or because every partition in it has ended."""
    gathered = Gathered()
    gathered.take(brought, 0.0)
    assert gathered.full(LIMITS, now) is full


@pytest.mark.parametrize(
    ("brought", "full"),
    [
        pytest.param(poll(message("a", 0), ends={("a", 0): 1}), False, id="old-and-nothing-more-to-come"),
        pytest.param(poll(*(message("a", n) for n in range(5))), True, id="enough-messages"),
        pytest.param(poll(message("a", 0, 1000)), True, id="enough-bytes"),
    ],
)
def test_beside_a_fold_only_as_much_is_gathered_as_one_may_hold(brought: Poll, full: bool) -> None:
    """Little that waits goes on waiting: the loop must not stand still for it."""
    gathered = Gathered()
    gathered.take(brought, 0.0)
    assert gathered.full(LIMITS, 9.0, busy=True) is full


def test_what_cannot_be_folded_is_halved_down_to_one_message() -> None:
    """Ends wait for the last part; a lone message becomes a reject once, then the failure is no message's."""
    gathered = Gathered()
    gathered.take(poll(*(message("a", n) for n in range(4)), ends={("a", 0): 4}), 0.0)
    assert gathered.next_part()[1] == {("a", 0): 4}
    assert gathered.close_in("refused")
    part, ends = gathered.next_part()
    assert ([m.offset for m in part], ends) == ([0, 1], {})
    assert gathered.close_in("refused")
    assert [m.offset for m in gathered.next_part()[0]] == [0]
    assert gathered.poison is None
    assert gathered.close_in("refused")
    assert gathered.poison is not None
    assert gathered.poison.startswith("refused; ")
    assert not gathered.close_in("refused")
    gathered.folded(1)
    assert gathered.poison is None
    assert [m.offset for m in gathered.next_part()[0]] == [1, 2]


def test_a_lone_message_that_cannot_be_folded_takes_none_that_came_after_it_with_it() -> None:
    """It alone becomes a reject: its transaction ends beside the loop, and more may have been gathered before that."""
    gathered = Gathered()
    gathered.take(poll(message("a", 0)), 0.0)
    gathered.begun(1)
    gathered.failed()
    assert gathered.close_in("refused")
    gathered.take(poll(message("a", 1), message("a", 2), ends={("a", 0): 3}), 0.0)
    part, ends = gathered.next_part()
    assert ([m.offset for m in part], ends) == ([0], {})
    assert gathered.poison is not None
    gathered.folded(1)
    assert gathered.poison is None


def test_a_forgotten_topic_leaves_the_others_whole() -> None:
    """Its messages, ends and bytes are gone; what was wrong with its first message does not blame another's."""
    gathered = Gathered()
    ends = {("a", 0): 1, ("b", 0): 2}
    gathered.take(poll(message("a", 0, 30), message("b", 0, 7), message("b", 1, 5), ends=ends), 0.0)
    gathered.part, gathered.poison = 1, "why"
    gathered.forget("a")
    part, left = gathered.next_part()
    assert [(m.topic, m.offset) for m in part] == [("b", 0), ("b", 1)]
    assert (left, gathered.size, gathered.poison) == ({("b", 0): 2}, 12, None)
    gathered.forget(None)
    assert not gathered


def test_headers_count_as_bytes() -> None:
    """A batch is bounded by all that is held of it."""
    assert message_size(Message("a", 0, 0, None, b"key", b"value", [("name", b"v"), ("null", None)])) == 3 + 5 + 5 + 4


def test_what_a_fold_is_under_way_with_comes_back_if_it_fails() -> None:
    """New messages gather behind it; if it failed, the same messages are the next part, and ends belong to the last."""
    gathered = Gathered()
    gathered.take(poll(message("a", 0), message("a", 1), ends={("a", 0): 2}), 0.0)
    gathered.begun(2)
    assert (bool(gathered), gathered.waiting, gathered.full(LIMITS, 9.0)) == (True, False, False)
    gathered.take(poll(*(message("a", n) for n in range(2, 5)), ends={("a", 0): 5, ("b", 0): 1}), 1.0)
    assert [m.offset for m in gathered.next_part()[0]] == [2, 3, 4]
    gathered.failed()
    assert gathered.full(LIMITS, 1.0)
    part, ends = gathered.next_part()
    assert ([m.offset for m in part], ends, gathered.size) == ([0, 1], {}, 50)
    gathered.begun(2)
    gathered.folded(2)
    assert [m.offset for m in gathered.next_part()[0]] == [2, 3, 4]
    assert gathered.next_part()[1] == {("a", 0): 5, ("b", 0): 1}
    gathered.begun(3)
    gathered.folded(3)
    assert not gathered


def test_an_end_alone_that_a_fold_is_under_way_with_is_not_done_yet() -> None:
    """It counts as gathered until the fold has ended, and again if that failed."""
    gathered = Gathered()
    gathered.take(poll(ends={("a", 0): 7}), 0.0)
    gathered.begun(0)
    assert (bool(gathered), gathered.waiting) == (True, False)
    gathered.failed()
    assert gathered.next_part() == ([], {("a", 0): 7})
