"""What happens in a shop: transactions of inserts, updates and deletes that any database can carry out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

Literal = Callable[[Any], str]
"""A value in the words of a database's SQL."""


@dataclass(frozen=True, slots=True)
class Step:
    """One statement about one row: `key` names it, None for a new one; `values` None: it goes."""

    table: str
    key: Mapping[str, Any] | None
    values: Mapping[str, Any] | None

    def sql(self, literal: Literal) -> str:
        """The statement."""

        def pairs(values: Mapping[str, Any], between: str) -> str:
            return between.join(f"{name} = {literal(value)}" for name, value in values.items())

        if self.key is None:
            values = self.values or {}
            return f"insert into {self.table} ({', '.join(values)}) values ({', '.join(map(literal, values.values()))})"
        if self.values is None:
            return f"delete from {self.table} where {pairs(self.key, ' and ')}"
        return f"update {self.table} set {pairs(self.values, ', ')} where {pairs(self.key, ' and ')}"


class Book:
    """The transactions of a shop, in order. Those up to `opens` are there when the connector comes."""

    def __init__(self) -> None:
        self.before: list[list[Step]] = []
        self.live: list[list[Step]] = []
        self._done = self.before
        self._open: list[Step] | None = None

    def opens(self) -> None:
        """What follows happens while the connector streams."""
        self._done = self.live

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Everything within commits at once; within another one it joins that."""
        if self._open is not None:
            yield
            return
        self._open = []
        yield
        self._done.append(self._open)
        self._open = None

    def insert(self, table: str, **values: Any) -> None:
        """A new row."""
        self._add(Step(table, None, values))

    def update(self, table: str, key: Any, **values: Any) -> None:
        """Other values in a row, named by its `id` or by a mapping of columns."""
        self._add(Step(table, _key(key), values))

    def delete(self, table: str, key: Any) -> None:
        """A row goes."""
        self._add(Step(table, _key(key), None))

    def _add(self, step: Step) -> None:
        if self._open is not None:
            self._open.append(step)
        else:
            self._done.append([step])


def _key(key: Any) -> Mapping[str, Any]:
    return key if isinstance(key, Mapping) else {"id": key}


class Trade:
    """A shop under way: its book, a clock that only ever moves on, and ids that are never given twice."""

    def __init__(self, book: Book, start: datetime, *, first_id: int = 0, microseconds: int = 0) -> None:
        """`microseconds` are added with every move of the clock, where a shop keeps parts of a second."""
        self.book = book
        self._now = start
        self._ids = first_id
        self._part = microseconds

    def _tick(self, **after: int) -> datetime:
        self._now += timedelta(**(after or {"minutes": 7}), microseconds=self._part)
        return self._now

    def _next(self) -> int:
        self._ids += 1
        return self._ids
