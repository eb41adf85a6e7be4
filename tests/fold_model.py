"""What the mirror must hold, worked out naively: every row keeps all changes that counted, and is read off them anew.

Written from the rules in words and not from `daemon.ingest.fold`; where the two differ, one of them is wrong.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from daemon.ingest.change import Change, Kind
from daemon.mapping.structure import Structure

Name: TypeAlias = tuple[str, str]
"""(source, row key)"""


@dataclass(frozen=True)
class Applied:
    """A change that counted when it came, from which origin, in which generation of its source."""

    change: Change
    origin: int
    generation: int


@dataclass(frozen=True)
class State:
    """A row. `lost` holds the columns that an ideal memory would know, but a mirror of one row a key may not."""

    deleted: bool
    columns: Mapping[str, Any]
    unknown: frozenset[str]
    doubted: bool = False  # rejected last: nothing of it is known
    lost: frozenset[str] = field(default=frozenset(), compare=False)


@dataclass
class Model:
    """All rows, by the changes that made them."""

    structure: Structure
    rows: dict[Name, list[Applied]] = field(default_factory=dict)
    generations: dict[str, int] = field(default_factory=dict)
    told_ms: dict[Name, int] = field(default_factory=dict)
    """By row, the earliest time that any image of it told, whether or not that counted."""
    _states: dict[str, dict[tuple[str, int], State | None]] = field(default_factory=dict)
    """By source, what was read off already. A change can tell something of any row of its source: key changes."""

    def take(self, change: Change, origin: int, *, late: bool = False) -> bool:
        """One change comes; whether it counts. `late`: as a retried reject, which stands where it stood before."""
        name = (change.source, change.key)
        history = self.rows.get(name, [])
        generation = history[-1].generation if late and history else self.generations.get(change.source, 0)
        applied = Applied(change, origin, generation)
        if change.kind is Kind.UPSERT and change.committed_ms is not None:
            self.told_ms[name] = min(change.committed_ms, self.told_ms.get(name, change.committed_ms))
        if history and history[-1].generation == generation and self._contained(applied, history):
            return False
        self.rows[name] = [*history, applied]
        self._states.pop(change.source, None)
        return True

    def state(self, name: Name, upto: int | None = None) -> State | None:
        """The row as its first `upto` changes leave it, or all; None where there are none."""
        source, key = name
        history = self.rows.get(name, [])
        count = len(history) if upto is None else min(upto, len(history))
        known = self._states.setdefault(source, {})
        state: State | None = None
        for number in range(count):
            if (key, number) not in known:
                known[key, number] = self._after(name, number, history[number].change, state)
            state = known[key, number]
        return state

    def live(self) -> dict[Name, State]:
        """All rows that are not deleted."""
        states = ((name, self.state(name)) for name in self.rows)
        return {name: state for name, state in states if state is not None and not state.deleted}

    def first_seen_ms(self, name: Name) -> int | None:
        """The earliest time that any image of the row told that counted."""
        images = (applied.change for applied in self.rows[name] if applied.change.kind is Kind.UPSERT)
        return min((image.committed_ms for image in images if image.committed_ms is not None), default=None)

    def order_of(self, name: Name) -> str | None:
        """The order at the end of the way up; None where a row on it is deleted, not there, or points nowhere."""
        state = self.state(name)
        above = self._above(name)
        if above is not None:
            return self.order_of(above) if state is not None and not state.deleted else None
        return name[1] if name[0] == self.structure.root else None

    def looked_up(self, name: Name) -> set[Name]:
        """The rows that a live row looks up, over however many steps."""
        state = self.state(name)
        if state is None or state.deleted:
            return set()
        found: set[Name] = set()
        image = self._last_image(name)
        for link in self.structure.sources[name[0]].refs:
            key = link.target_key(image.columns) if image is not None else None
            if key is not None:
                found |= {(link.target, key)} | self.looked_up((link.target, key))
        return found

    def documents(self) -> dict[str, dict[Name, State | None]]:
        """By order, all that its document can show: live rows under live ones, and what they look up."""
        documents: dict[str, dict[Name, State | None]] = {}
        for name in self.live():
            if (order := self.order_of(name)) is not None:
                rows = {row: self.state(row) for row in {name} | self.looked_up(name)}
                documents.setdefault(order, {}).update(rows)
        return documents

    def up(self, name: Name) -> Iterator[Name]:
        above = self._above(name)
        if above is not None:
            yield above
            yield from self.up(above)

    def _above(self, name: Name) -> Name | None:
        """The row that a row hangs below by its last image."""
        image = self._last_image(name)
        if image is not None:
            for owner in self.structure.sources[name[0]].owners:
                if (key := owner.target_key(image.columns)) is not None:
                    return owner.target, key
        return None

    def heirs(self, name: Name) -> set[Name]:
        """The rows to whose keys a row's key led, over however many changes."""
        found: set[Name] = set()
        new = {name}
        while new:
            made = ((row, one.change.old_key) for row, history in self.rows.items() for one in history)
            new = {row for row, old_key in made if old_key is not None and (row[0], old_key) in new} - found
            found |= new
        return found

    def _last_image(self, name: Name) -> Change | None:
        images = [one.change for one in self.rows.get(name, []) if one.change.kind is Kind.UPSERT]
        return images[-1] if images else None

    def _contained(self, new: Applied, history: list[Applied]) -> bool:
        """Whether what the row knows includes the change already; in any doubt not."""
        change, last = new.change, history[-1]
        state = self.state((change.source, change.key))
        assert state is not None
        if change.kind is Kind.TOMBSTONE and state.deleted:
            return True
        if new.origin == last.origin:
            # A reject leaves its own place open.
            folded = last.change.message.offset - (last.change.kind is Kind.UNKNOWN)
            if change.message.offset <= folded:
                return True
        stands = self._stands(history)
        if stands is None or change.position is None or change.committed_ms is None or change.lineage != stands.lineage:
            return False
        assert stands.position is not None
        assert stands.committed_ms is not None
        if change.position == stands.position and change.committed_ms == stands.committed_ms:
            again = new.origin != last.origin
            return again and not (state.deleted and change.kind is Kind.UPSERT)
        return change.position <= stands.position and change.committed_ms <= stands.committed_ms

    def _stands(self, history: list[Applied]) -> Change | None:
        """The change whose log position guards the row: the last that had one, within this generation, since the last
        tombstone; None where there is none, or it had no time."""
        for applied in reversed(history):
            if applied.generation != history[-1].generation or applied.change.kind is Kind.TOMBSTONE:
                return None
            if applied.change.position is not None:
                return applied.change if applied.change.committed_ms is not None else None
        return None

    def _after(self, name: Name, number: int, change: Change, before: State | None) -> State:
        if change.kind is Kind.UNKNOWN:
            return State(before is not None and before.deleted, {}, frozenset(), doubted=True)
        if change.kind is not Kind.UPSERT:
            return State(True, {}, frozenset())
        known, lost = self._left_out(name, number, change, before)
        columns = {**change.columns, **known}
        return State(False, columns, frozenset(change.unavailable) - columns.keys(), lost=lost & columns.keys())

    def _left_out(
        self, name: Name, number: int, change: Change, before: State | None
    ) -> tuple[dict[str, Any], frozenset[str]]:
        """The values of the columns that an image leaves out, as far as anything tells them, and which may be lost."""
        wanted = frozenset(change.unavailable)
        if not wanted:
            return {}, frozenset()
        if change.old_key is None and before is not None and before.deleted:
            # A replay from the middle of a life: the row is what it was when it left.
            before = self._when_it_left(name, number)
        known: dict[str, Any] = {}
        lost: frozenset[str] = frozenset()
        if before is not None and not before.deleted and not before.doubted:
            known = {column: before.columns[column] for column in wanted if column in before.columns}
            lost = before.lost
        if change.old_key is not None and wanted - known.keys():
            old = (name[0], change.old_key)
            left = [(at, one.change) for at, one in enumerate(self.rows.get(old, [])) if one.change.new_key == name[1]]
            left = [(at, one) for at, one in left if one.position == change.position] or left
            source = self._when_it_left(old, left[-1][0] + 1) if left else None
            if source is not None and not source.doubted:
                taken = {column: source.columns[column] for column in wanted - known.keys() if column in source.columns}
                # By a rejected image too: what came after it says that there was one.
                reused = any(one.change.kind in (Kind.UPSERT, Kind.UNKNOWN) for one in self.rows[old][left[0][0] + 1 :])
                known |= taken
                lost |= frozenset(taken) if reused else source.lost
        return known, lost

    def _when_it_left(self, name: Name, upto: int) -> State | None:
        """The row as it was before the delete, last of its first `upto` changes, by which its key changed."""
        history = self.rows[name][:upto]
        if not history or history[-1].change.new_key is None:
            return None
        state = self.state(name, upto - 1)
        if state is not None and state.deleted:
            return self._when_it_left(name, upto - 1)
        return state
