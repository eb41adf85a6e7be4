"""The line between processes and vendor: when a request arrives, what becomes of it, and what its sender hears.

The verdict on a request is the sandbox's; faults are handed to its queue as a user would. A request is applied at most
`vendor_settle` after its connection ended or was answered, whatever happened to it (but in the world beyond that).
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from daemon.delivery.orders_stream import orders_in
from daemon.delivery.verdict import Answer, Trouble
from daemon.sandbox.faults import Fault as Told
from daemon.sandbox.options import ApiKey
from daemon.sandbox.vendor import Arrival, Course, Vendor
from simulation.climate import OF_REQUEST, Fault
from simulation.shop import crashes
from simulation.store import CLIENT_ID, EPOCH

if TYPE_CHECKING:
    from simulation.process import Process
    from simulation.world import World

FIRST_KEY = "key-1"
NEVER = 1e9
POST = (*OF_REQUEST, Fault.BEYOND_SETTLE)
LATE = (Fault.LATE_AFTER_CUT, Fault.LATE_AFTER_5XX)


class _EndedError(Exception):
    """The connection ended without an answer."""


@dataclass(eq=False, slots=True)
class Line:
    """One POST from the moment its first byte left. Times are the world's."""

    number: int
    process: Process
    body: bytes
    key: str
    begun: float
    since: float
    order_ids: tuple[str, ...]
    documents: dict[str, bytes]
    heard: asyncio.Future[Answer]
    fate: Fault | None = None
    settle: float = 0.0
    course: Course | None = None
    apply_at: float | None = None
    applied_at: float | None = None
    ended_at: float | None = None
    answered: bool = False
    tokens: list[object] = field(default_factory=list)

    @property
    def disturbed(self) -> bool:
        """Its process was paused since it was asked for: the late finisher makes good what it overtook."""
        return self.process.loop.held or self.process.paused_at >= self.since


class Network:
    """The vendor with the line before it."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._lot = world.lots.network
        self.key = FIRST_KEY
        budget = world.climate.delivery
        self.vendor = Vendor(
            replace(
                world.climate.sandbox,
                keys=(ApiKey(FIRST_KEY, CLIENT_ID),),
                budget_bytes=budget.budget_bytes,
                budget_window_secs=budget.budget_window_secs,
            )
        )
        self.unreachable = False
        self.failing = False
        self.lines: list[Line] = []
        self.pending = 0
        """Requests that may still be applied."""

    def read_back(self) -> list[dict[str, Any]]:
        """What GET shows of all orders, in pieces as they come over a line."""
        now = EPOCH + self._world.now
        course = self.vendor.get(Arrival(self.key, CLIENT_ID), "2000-01-01", "2100-01-01", now)
        self.vendor.end(course, 200, now)
        assert course.answer is not None
        assert course.answer.status == 200
        body = course.answer.body
        return list(orders_in(body[start : start + 1000] for start in range(0, len(body), 1000)))

    # What a process does

    async def connect(self) -> None:
        """Raises ConnectionError where nobody answers."""
        await asyncio.sleep(self._lot.uniform(0.0, self._world.climate.latency_secs / 2))
        if self.unreachable:
            raise ConnectionError("nobody answers")

    def send(self, process: Process, body: bytes, fate: Fault | None, since: float) -> Line:
        """The bytes leave. `since`: when the process was asked to send them."""
        world = self._world
        documents = _documents(body)
        line = Line(
            len(self.lines) + 1,
            process,
            body,
            self.key,
            world.now,
            since,
            tuple(documents),
            documents,
            asyncio.get_running_loop().create_future(),
            fate,
            self._settle(fate),
        )
        self.lines.append(line)
        self.pending += 1
        world.trace(f"{process.name} POST {line.number}: {', '.join(line.order_ids)} ({fate or 'no fault'})")
        world.oracle.sent(line)
        world.after(self._latency(), lambda: self._arrive(line))
        return line

    def open_of(self, process: Process) -> list[Line]:
        """The connections of a process that stand."""
        return [line for line in self.lines if line.process is process and line.ended_at is None]

    def close(self, line: Line) -> None:
        """Its sender ends the connection, if it stands: what was not applied by now may be, for as long as it can."""
        if line.ended_at is not None:
            return
        self._end(line, None)

    def _settle(self, fate: Fault | None) -> float:
        settle = self._world.climate.delivery.vendor_settle_secs
        if fate is Fault.BEYOND_SETTLE:
            return settle + self._lot.uniform(5.0, 4.0 * self._world.climate.delivery.fence_secs)
        return self._lot.uniform(0.0, 0.98 * settle)

    def _latency(self) -> float:
        return self._lot.uniform(0.0, self._world.climate.latency_secs)

    # What becomes of it

    def _arrive(self, line: Line) -> None:
        if line.fate is Fault.CUT_UNAPPLIED:
            self._done(line)
            self._cut(line)
            return
        if line.ended_at is not None and self._lot.random() < 0.5:
            self._done(line)  # the reset overtook the bytes
            return
        now = self._world.now
        if told := self._told(line):
            self.vendor.faults.add([told])
        course = self.vendor.post(Arrival(line.key, CLIENT_ID, len(line.body), self._seen(line)), EPOCH + now)
        self.vendor.faults.clear()
        line.course = course
        self._world.oracle.arrived(line)
        if line.ended_at is not None:
            self.vendor.end(course, None, EPOCH + now)
        self._take_course(line, course)

    def _seen(self, line: Line) -> bytes | None:
        return line.body if len(line.body) <= self.vendor.options.max_body_bytes else None

    def _told(self, line: Line) -> Told | None:
        """The fault that the sandbox is told to show to this request."""
        if any(crashes(body) for body in line.documents.values()):
            return Told(action="status", status=self._lot.choice([500, 502, 504]))
        if self.failing:
            return Told(action="status", status=503)
        retry = {"Retry-After": str(self._lot.randint(1, 6))}
        match line.fate:
            case Fault.ERROR:
                return Told(action="status", status=self._lot.choice([500, 503, 408]))
            case Fault.ERROR_APPLIED:
                return Told(action="status", status=502, applied=True)
            case Fault.LIMITED:
                return Told(action="status", status=429, body="{}")
            case Fault.LIMITED_WAIT:
                return Told(action="status", status=429, headers=retry)
            case Fault.CUT_APPLIED:
                return Told(action="drop_after")
            case Fault.UNANSWERED:
                return Told(action="delay", applied=True, seconds=NEVER)
            case Fault.SLOW_ANSWER:
                return Told(action="delay", applied=True, seconds=self._lot.uniform(2.0, 9.0))
            case Fault.SLOW_VENDOR:
                return Told(
                    action="delay",
                    seconds=self._lot.choice([self._lot.uniform(2.0, 12.0), self._lot.uniform(30.0, 90.0)]),
                )
            case Fault.LATE_AFTER_CUT:
                return Told(action="apply_late", seconds=line.settle)
            case Fault.LATE_AFTER_5XX:
                return Told(action="apply_late", seconds=line.settle, status=502)
            case Fault.BEYOND_SETTLE:
                return Told(action="apply_late", seconds=line.settle)
        return None

    def _take_course(self, line: Line, course: Course) -> None:
        world = self._world
        first = course.hold_first.seconds if course.hold_first else 0.0
        if course.late is not None or not course.applies or not course.orders:
            if course.late is None:
                self._done(line)
            self._answer(line, course)
        elif first:
            self._apply_at(line, world.now + (first or 0.0))
        else:
            self._apply(line)

    def _apply_at(self, line: Line, when: float) -> None:
        line.apply_at = min(when, self._latest(line))
        token = object()
        line.tokens.append(token)
        self._world.at(line.apply_at, lambda: self._apply(line) if line.tokens[-1] is token else None)

    def _latest(self, line: Line) -> float:
        return NEVER if line.ended_at is None else line.ended_at + line.settle

    def _apply(self, line: Line) -> None:
        course = line.course
        if course is None or line.applied_at is not None:
            return
        line.applied_at = self._world.now
        line.apply_at = None
        taken = {order.order_id: order.raw for order in course.orders}
        self._world.oracle.applies(line, taken)
        self.vendor.apply(course, EPOCH + self._world.now)
        self._done(line)
        self._world.trace(f"vendor applies POST {line.number}: {', '.join(taken)}")
        if course.late is None:
            self._answer(line, course)

    def _answer(self, line: Line, course: Course) -> None:
        """The vendor has its answer; what is late begins when it leaves."""
        hold = course.hold_answer.seconds if course.hold_answer else 0.0
        if hold and hold < NEVER:
            self._world.after(hold, lambda: self._leaves(line, course))
        elif not hold:
            self._leaves(line, course)

    def _leaves(self, line: Line, course: Course) -> None:
        if line.ended_at is None:
            if course.answer is None:
                self._cut(line)
            else:
                self._end(line, course.answer.status)
                answer = Answer(
                    course.answer.status,
                    {name.lower(): value for name, value in course.answer.headers.items()},
                    course.answer.body,
                )
                self._world.after(self._latency(), lambda: self._hear(line, answer))
        elif course.late is not None and line.apply_at is None and line.applied_at is None:
            self._apply_at(line, line.ended_at + line.settle)

    def _cut(self, line: Line) -> None:
        if line.ended_at is None:
            self._end(line, None)
            self._world.after(self._latency(), lambda: self._hear(line, None))

    def _end(self, line: Line, status: int | None) -> None:
        now = self._world.now
        line.ended_at = now
        if line.course is not None:
            self.vendor.end(line.course, status, EPOCH + now)
            if line.course.late is not None and line.applied_at is None:
                self._apply_at(line, now + line.settle)
            elif line.apply_at is not None:
                self._apply_at(line, line.apply_at)
        self._world.oracle.ended(line)

    def _hear(self, line: Line, answer: Answer | None) -> None:
        if line.process.alive and not line.heard.done():
            line.answered = True
            loop = line.process.loop
            loop.call_soon(_set, line.heard, answer)

    def _done(self, line: Line) -> None:
        self.pending -= 1
        self._world.trace(f"POST {line.number} can no longer be applied")


def _set(heard: asyncio.Future[Answer], answer: Answer | None) -> None:
    if heard.done():
        return
    if answer is None:
        heard.set_exception(_EndedError())
    else:
        heard.set_result(answer)


class SimApi:
    """The Orders API as one process sees it: the same edges as over HTTP, where a time-out or a cut may fall."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._last_key: str | None = None

    def key_changed(self) -> bool:
        """Whether the key is another one than that of the last call."""
        return self._last_key is not None and self._process.world.network.key != self._last_key

    async def post(self, body: bytes, *, begin_by: float, timeout_secs: float) -> Answer:
        """One POST of prepared bytes."""
        process = self._process
        world, network = process.world, process.world.network
        self._last_key = network.key
        since = world.now
        fate = world.draw(POST, world.lots.network)
        if fate is not None:
            world.happens(fate, f"{process.name} POST")
        line: Line | None = None
        try:
            async with asyncio.timeout(timeout_secs):
                await network.connect()
                if fate is Fault.CRASH_AT_POST:
                    process.kill()
                    await asyncio.sleep(0)
                if process.loop.time() > begin_by or fate is Fault.UNREACHABLE:
                    return Answer(trouble=Trouble.NOT_SENT, detail="could not begin")
                if fate is Fault.PAUSE_AT_SEND:
                    process.freeze(world.lots.network.uniform(0.1, 5.0) * world.climate.delivery.fence_secs)
                    await asyncio.sleep(0)
                line = network.send(process, body, fate, since)
                if fate in LATE and Fault.STOP in world.climate.episodes and world.lots.network.random() < 0.3:
                    world.happens(Fault.STOP, process.name)
                    world.after(world.lots.network.uniform(0.0, 3.0), process.end)  # the next leader knows of no hold
                if fate is Fault.CRASH_IN_POST:
                    world.after(world.lots.network.uniform(0.0, 2.0), process.kill)
                return await line.heard
        except TimeoutError:
            return Answer(trouble=Trouble.TIMED_OUT if line else Trouble.NOT_SENT)
        except ConnectionError as error:
            return Answer(trouble=Trouble.NOT_SENT, detail=str(error))
        except _EndedError:
            return Answer(trouble=Trouble.CUT)
        finally:
            if line is not None:
                network.close(line)


def _documents(body: bytes) -> dict[str, bytes]:
    """The documents of a request by order id, byte for byte."""
    found: dict[str, bytes] = {}
    decoder = json.JSONDecoder()
    text = body.decode()
    at = 1
    while at < len(text):
        value, end = decoder.raw_decode(text, at)
        found[value["order_id"]] = text[at:end].encode()
        at = end + 1
    return found
