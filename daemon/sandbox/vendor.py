"""What becomes of one request to the stand-in: access, byte window, faults, verdict, what is stored. No I/O.

Time is an argument everywhere, so that a simulation can drive a `Vendor` under its own clock. A request's life:

    course = vendor.post(arrival, now)     (or patch) counted, judged, its fate decided; from here on it is in flight
    vendor.apply(course, now)              its orders are stored: at once, held, late or never, as the course says
    vendor.end(course, status, now)        answered (status) or cut or given up by its sender (None); no more in flight
"""

from __future__ import annotations

import dataclasses
import re
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any, Literal

from pydantic import ValidationError

from daemon.sandbox import answers
from daemon.sandbox.answers import Answer
from daemon.sandbox.contract import Order, Problem, Reading, read, read_patches
from daemon.sandbox.faults import Fault, FaultQueue
from daemon.sandbox.flip import flip
from daemon.sandbox.options import SandboxOptions
from daemon.sandbox.state import Entry, InFlight, OrderBook, OrderKey, Version
from daemon.sandbox.window import ByteWindow

KeyState = Literal["good", "revoked", "forbidden"]


@dataclass(frozen=True, slots=True)
class Arrival:
    """A request whose body has been read. `body` is None where it is above the size limit; `size` is always its own.

    `is_json` says whether its content type is the one that the contract asks for.
    """

    key: str
    client_id: str
    size: int = 0
    body: bytes | None = b""
    is_json: bool = True


@dataclass(frozen=True, slots=True)
class Hold:
    """A wait of so many seconds, or, with None, until it is released."""

    seconds: float | None


@dataclass(frozen=True, slots=True)
class Course:
    """What is to happen to one request, in this order: `hold_first`, apply if `applies`, `hold_answer`, the answer.

    With `late` set its orders are applied after that hold instead, which starts when the request ends. `answer` None
    means that the connection is cut, by a reset if `reset`. `patches`: its orders change those that are there.
    """

    entry: Entry
    answer: Answer | None
    orders: tuple[Order, ...] = ()
    applies: bool = True
    patches: bool = False
    hold_first: Hold | None = None
    hold_answer: Hold | None = None
    late: Hold | None = None
    reset: bool = True


class Vendor:
    """The provider, as far as a client can tell."""

    def __init__(self, options: SandboxOptions) -> None:
        self.options = options
        self.book = OrderBook()
        self.log: deque[Entry] = deque()
        self.faults = FaultQueue()
        self.faults.add(options.faults)
        self._flying = InFlight()
        self._windows: dict[str, ByteWindow] = {}
        self._window_client: dict[str, str] = {}
        self._keys: dict[str, tuple[str, KeyState]] = {pair.key: (pair.client_id, "good") for pair in options.keys}
        self._statuses: Counter[str] = Counter()
        self._fired: Counter[str] = Counter()
        self._counts: Counter[str] = Counter()

    # requests

    def post(self, arrival: Arrival, now: float) -> Course:
        """POST /v2/orders. The verdict is made on arrival, whatever is held or applied later."""
        reading = None
        if arrival.body is not None:
            reading = read(
                arrival.body,
                max_orders=self.options.max_orders,
                unique_product_ids=self.options.unique_product_ids,
            )
        return self._written("POST", arrival, reading, now)

    def patch(self, arrival: Arrival, now: float) -> Course:
        """PATCH /v2/orders: all of it or nothing. Orders that are not there, or of another customer, are problems."""
        reading = None if arrival.body is None else read_patches(arrival.body)
        if reading is not None:
            unknown = [
                Problem(order.index, order.order_id, ("order_id",), "Order not found")
                for order in reading.orders
                if not self.book.has((arrival.client_id, order.order_id), order.raw)
            ]
            reading = dataclasses.replace(reading, problems=(*reading.problems, *unknown))
        course = self._written("PATCH", arrival, reading, now)
        whole = () if reading is None or reading.problems else course.orders
        return dataclasses.replace(course, orders=whole, patches=True)

    def _written(self, method: str, arrival: Arrival, reading: Reading | None, now: float) -> Course:
        order_ids = reading.order_ids if reading else ()
        entry = self._enter(method, arrival, now, order_ids)
        if denied := self._denied(arrival, now):
            return Course(entry, denied)
        if reading is None:
            return Course(entry, answers.plain(413, "Payload too large"))
        if not arrival.is_json:
            return Course(entry, answers.plain(400, "Content-Type must be application/json"))
        entry.problems = len(reading.problems)
        orders = reading.orders
        if reading.malformed:
            answer = Answer(400, b"")  # the documented sign of malformed JSON is a 400 without a message
        elif reading.too_many:
            answer = answers.plain(self.options.too_many_status, reading.problems[0].message)
        elif reading.problems:
            answer = answers.refused(reading.problems, self.options)
            orders = () if self.options.refusal == "batch" else orders
            if self.options.refusal == "listed" and not orders:
                answer = dataclasses.replace(answer, status=400)
        else:
            answer = answers.received()
        return self._through_faults(Course(entry, answer, orders))

    def get(self, arrival: Arrival, start_date: str | None, end_date: str | None, now: float) -> Course:
        """GET /v2/orders: the latest documents by UTC day of purchase."""
        entry = self._enter("GET", arrival, now, ())
        if denied := self._access(arrival):
            return Course(entry, denied)
        start, end = _day(start_date), _day(end_date)
        if start is None or end is None:
            return self._through_faults(Course(entry, answers.plain(400, "start_date and end_date must be %Y-%m-%d")))
        documents = b"[" + b",".join(self._documents(arrival.client_id, start, end)) + b"]"
        if self.options.get_as_string:
            documents = answers.as_json(documents.decode("utf-8"))
        return self._through_faults(Course(entry, Answer(200, documents)))

    def apply(self, course: Course, now: float) -> None:
        """Store the orders of a course, as versions of `now`."""
        entry = course.entry
        merges = course.patches or self.options.post_merges
        store = self.book.merge if merges else self.book.accept
        store(entry.client_id, course.orders, at=now, request=entry.number, keep=self.options.keep_versions)
        self._counts["applied_requests"] += bool(course.orders)
        self._counts["late_applied"] += bool(course.orders and course.late)

    def end(self, course: Course, status: int | None, now: float) -> None:
        """The request is over for its sender. Only the first call for a course counts."""
        entry = course.entry
        if self._flying.end(entry.number):
            entry.status = status
            entry.ended_at = now
            self._statuses["cut" if status is None else str(status)] += 1

    # steering

    def set_key(self, key: str, state: KeyState, client_id: str | None = None) -> None:
        """Let a key in, or answer it 401 (`revoked`) or 403 (`forbidden`). A new key needs its client id."""
        known = self._keys.get(key)
        if client_id is None and known is None:
            raise ValueError("this key is new: give its client_id")
        self._keys[key] = (client_id if client_id is not None else known[0] if known else "", state)

    def change_options(self, changes: dict[str, Any]) -> None:
        """Change switches from now on. Raises ValueError for an unknown switch, a wrong value, `keys` or `faults`."""
        switches = {field.name for field in dataclasses.fields(SandboxOptions)} - {"keys", "faults"}
        if unknown := sorted(changes.keys() - switches):
            raise ValueError(f"no switch to change: {', '.join(unknown)}; there are: {', '.join(sorted(switches))}")
        try:
            self.options = dataclasses.replace(self.options, **changes)
        except ValidationError as error:
            raise ValueError(problems_of(error)) from error

    def flip(self, order_id: str | None = None, attribute: str = "purchase_total") -> dict[str, str]:
        """Falsify one attribute of one latest document; says which. ValueError if there is none."""
        for key, version in self.book.latest():
            if order_id in (None, key[1]):
                raw = flip(version.raw, attribute)
                self.book.replace_latest(key, dataclasses.replace(version, raw=raw, flipped=attribute))
                return {"client_id": key[0], "order_id": key[1], "attribute": attribute}
        raise ValueError("no such order is stored")

    def stats(self, now: float) -> dict[str, Any]:
        """Counts since the start; gauges as of `now`."""
        window_secs = self.options.budget_window_secs
        used: Counter[str] = Counter()
        for key, window in self._windows.items():
            used[self._window_client[key]] += window.used(now, window_secs)
        return {
            "requests": self._counts["requests"],
            "posts": self._counts["posts"],
            "applied_requests": self._counts["applied_requests"],
            "accepted_orders": self.book.accepted,
            "orders": len(self.book),
            "late_applied": self._counts["late_applied"],
            "repeated_in_request": self._counts["repeated_in_request"],
            "statuses": dict(self._statuses),
            "bytes_in_window": dict(used),
            "peak_bytes_in_window": max((window.peak for window in self._windows.values()), default=0),
            "budget_violations": self._counts["budget_violations"],
            "in_flight": len(self._flying),
            "most_in_flight": self._flying.most_requests,
            "most_in_flight_of_one_order": self._flying.most_of_one_order,
            "shared_in_flight": self._flying.shared,
            "faults_queued": len(self.faults),
            "faults_fired": dict(self._fired),
        }

    # parts

    def _enter(self, method: str, arrival: Arrival, now: float, order_ids: tuple[str, ...]) -> Entry:
        self._counts["requests"] += 1
        self._counts["posts"] += method == "POST"
        named = frozenset((arrival.client_id, order_id) for order_id in order_ids)
        self._counts["repeated_in_request"] += len(order_ids) - len(named)
        entry = Entry(self._counts["requests"], now, method, arrival.client_id, arrival.size, order_ids)
        self._flying.start(entry.number, named)
        self.log.append(entry)
        while len(self.log) > self.options.keep_requests:
            self.log.popleft()
        return entry

    def _access(self, arrival: Arrival) -> Answer | None:
        known = self._keys.get(arrival.key)
        if known is None and not self.options.keys and arrival.key and arrival.client_id:
            return None
        if known is None or known[0] != arrival.client_id or known[1] == "revoked":
            return answers.plain(401, "Unauthenticated")
        return answers.plain(403, "Forbidden") if known[1] == "forbidden" else None

    def _denied(self, arrival: Arrival, now: float) -> Answer | None:
        if refusal := self._access(arrival):
            return refusal
        window = self._windows.setdefault(arrival.key, ByteWindow())
        self._window_client[arrival.key] = arrival.client_id
        wait = window.admit(
            arrival.size,
            now,
            budget_bytes=self.options.budget_bytes,
            window_secs=self.options.budget_window_secs,
        )
        self._counts["budget_violations"] += wait > 0
        return answers.over_budget(wait) if wait else None

    def _through_faults(self, course: Course) -> Course:
        entry = course.entry
        fault = self.faults.pick(entry.method, entry.client_id, entry.order_ids)
        if fault is None:
            return course
        entry.fault = fault.action
        self._fired[fault.action] += 1
        return _misled(course, fault)

    def _documents(self, client_id: str, start: date, end: date) -> Iterator[bytes]:
        for _, version in self.book.latest(client_id):
            asked = start <= version.purchased and (
                version.purchased < end or (version.purchased == end and self.options.get_end_inclusive)
            )
            if asked and version.purchased not in self.options.get_hidden_days:
                yield _with_extras(version) if self.options.get_extra_fields else version.raw


def versions_as_json(found: Iterator[tuple[OrderKey, Version]]) -> list[dict[str, Any]]:
    """Versions with their documents as text, so that no number passes through a float on the way."""
    return [
        {
            "client_id": key[0],
            "order_id": key[1],
            "number": version.number,
            "at": version.at,
            "request": version.request,
            "flipped": version.flipped,
            "raw": version.raw.decode("utf-8"),
        }
        for key, version in found
    ]


def problems_of(error: ValidationError) -> str:
    """One line for a person: each place and what is wrong there."""
    return "; ".join(f"{'.'.join(map(str, found['loc']))}: {found['msg']}" for found in error.errors())


def _misled(course: Course, fault: Fault) -> Course:
    change = dataclasses.replace
    match fault.action:
        case "status":
            body = fault.body.encode() if fault.body is not None else answers.plain(fault.status or 500, "Fault").body
            answer = Answer(fault.status or 500, body, fault.headers)
            return change(course, answer=answer, applies=fault.applied)
        case "delay" if fault.applied:
            return change(course, hold_answer=Hold(fault.seconds))
        case "delay":
            return change(course, hold_first=Hold(fault.seconds))
        case "drop_before":
            return change(course, answer=None, applies=False, reset=fault.reset)
        case "drop_after":
            return change(course, answer=None, reset=fault.reset)
        case "apply_late":
            told = None if fault.status is None else answers.plain(fault.status, "Fault")
            if told is not None and fault.body is not None:
                told = change(told, body=fault.body.encode(), headers=fault.headers)
            return change(course, answer=told, applies=False, late=Hold(fault.seconds), reset=fault.reset)


def _with_extras(version: Version) -> bytes:
    moment = datetime.fromtimestamp(version.at, UTC).isoformat()
    extras = answers.as_json({"is_cancelled": False, "is_deleted": False, "updated_at": moment})
    return version.raw[:-1] + b"," + extras[1:]


def _day(text: str | None) -> date | None:
    return _parsed(text) if text is not None and re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", text) else None


def _parsed(text: str) -> date | None:
    try:
        return date.fromisoformat(text)
    except ValueError:
        return None
