"""From the rows of one order to its document, at the moment of sending and never from an event."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from daemon.document.normalise import Normaliser
from daemon.document.order import Breach, breaches, document_of
from daemon.document.outcome import (
    Deleted,
    Ineligible,
    Invalid,
    Oddity,
    Outcome,
    Ready,
    Voided,
    Waiting,
    WaitingReason,
)
from daemon.mapping.expressions import Expression
from daemon.mapping.faults import AbsentRow, Fault, NotYet
from daemon.mapping.graph import Empties, Graph
from daemon.mapping.model import ListRule, Mapping
from daemon.mapping.rows import StoredRow, targets

Values = dict[str, Any]


class Assembler:
    """Makes documents by one mapping, for one of its destinations. Holds no state between orders."""

    def __init__(self, mapping: Mapping, destination: str | None = None) -> None:
        self._mapping = mapping
        rule = mapping.destinations.get(destination) if destination is not None else None
        own = rule.when if rule is not None else None
        conditions = {"when": mapping.when, f"destinations.{destination}.when": own}
        self._conditions = {name: condition for name, condition in conditions.items() if condition is not None}
        self._empties = Empties(mapping)
        self._followed = {
            name: tuple(one for one in source.one.values() if (name, one.name) in mapping.followed)
            for name, source in mapping.sources.items()
        }

    def needs(self, rows: Iterable[StoredRow]) -> set[tuple[str, str]]:
        """(source, key) of the looked-up rows that the document may read and that are not among `rows`.

        The caller fetches them and asks again with all rows, until nothing is left but keys it has asked for before:
        those rows are absent.
        """
        wanted: set[tuple[str, str]] = set()
        have: set[tuple[str, str]] = set()
        for row in rows:
            have.add((row.source, row.key))
            followed = self._followed.get(row.source)
            if followed:
                wanted.update(targets(followed, self._mapping.sources[row.source].defaults, row))
        return wanted - have

    def assemble(
        self, order_key: str, rows: Iterable[StoredRow], *, final: bool = False, regardless: bool = False
    ) -> Outcome:
        """What the order comes to. `rows`: all rows of the order and the rows it looks up; others do no harm.

        With `final` the waiting is over: a looked-up row that never arrived counts as missing, and what is still
        unknown makes the order invalid. `regardless`: one that is cancelled or not eligible is taken for an order, to
        tell what would have been sent of it; but none of another destination.
        """
        graph = Graph(self._mapping, self._empties, order_key, rows, final=final)
        if graph.root is None:
            detail = f"{self._mapping.root} {order_key}"
            if final:
                return Invalid((f"{detail}: the order's own row has never arrived, only rows that belong to it",))
            return Waiting(WaitingReason.NO_ROOT, detail)
        if graph.root.deleted:
            return Deleted()
        try:
            return self._outcome(graph, final=final, regardless=regardless)
        except NotYet as signal:
            if final:
                cure = "`order-sync show` prints the statement that has the connector send the row again"
                return Invalid((f"{signal.detail}: its value has not been seen; {cure}",))
            absent = isinstance(signal, AbsentRow)
            return Waiting(WaitingReason.ABSENT_ROW if absent else WaitingReason.UNKNOWN_VALUE, signal.detail)
        except Fault as fault:
            return Invalid((str(fault),))

    def _outcome(self, graph: Graph, *, final: bool, regardless: bool) -> Outcome:
        mapping = self._mapping
        frame = {"row": graph.order, "order": graph.order}
        for name, condition in self._conditions.items():
            if not (regardless and name == "when") and not condition.evaluate(frame):
                return Ineligible(name)
        if not regardless and mapping.void is not None and mapping.void.evaluate(frame):
            return Voided(mapping.void_tag)
        problems: list[str] = []
        values = self._values(frame, problems)
        if not problems and not values["products"] and not final:
            return Waiting(WaitingReason.NO_PRODUCTS, f"{mapping.root} {graph.root.key if graph.root else ''}")
        normaliser = Normaliser(mapping.time_of_purchase_offset_secs)
        order = normaliser.order(values)
        if not problems:
            seen = {breach.path for breach in normaliser.breaches}
            found = [*normaliser.breaches, *(breach for breach in breaches(order) if breach.path not in seen)]
            problems = [self._problem(breach) for breach in found]
        if problems:
            return Invalid(tuple(problems))
        oddities = [*normaliser.oddities, *(Oddity.LOOKUP_MISSING for _ in graph.missing)]
        return Ready(document_of(order), tuple(oddities))

    def _values(self, frame: Values, problems: list[str]) -> Values:
        """The value of every rule; faults are collected, so that one look shows them all."""
        values: Values = {}
        for name, rule in self._mapping.document.items():
            try:
                if isinstance(rule, Expression):
                    values[name] = rule.evaluate(frame)
                elif isinstance(rule, dict):
                    values[name] = {part: expression.evaluate(frame) for part, expression in rule.items()}
                else:
                    values[name] = [item for part in rule for item in _items(part, frame)]
            except Fault as fault:
                problems.append(str(fault))
        return values

    def _problem(self, breach: Breach) -> str:
        """The breach with the place and the expression that made the value."""
        expression = self._expression(breach.attribute)
        if expression is None:
            return f"{breach.path}: {breach.what}"
        return f"{expression.place}: {breach.path}: {' '.join(expression.text.split())}: {breach.what}"

    def _expression(self, attribute: str) -> Expression | None:
        name, _, part = attribute.partition(".")
        rule = self._mapping.document.get(name)
        if rule is None or isinstance(rule, Expression):
            return rule
        if isinstance(rule, dict):
            return rule.get(part)
        return next((item.item[part] for item in rule if part in item.item), None)


def _items(rule: ListRule, frame: Values) -> list[Values]:
    """The items of one list rule: its loops nested, the outer one first."""
    made: list[Values] = []
    _loop(rule, 0, dict(frame), made)
    return made


def _loop(rule: ListRule, depth: int, frame: Values, made: list[Values]) -> None:
    if depth < len(rule.loops):
        name, expression = rule.loops[depth]
        values = expression.evaluate(frame)
        if not isinstance(values, list | tuple):
            fault = Fault("`for` needs a list; null is none, write (x or [])")
            fault.where = f"{expression.place}: {expression.attribute}: {expression.text}"
            raise fault
        for value in values:
            frame[name] = value
            _loop(rule, depth + 1, frame, made)
    elif rule.when is None or rule.when.evaluate(frame):
        made.append({name: expression.evaluate(frame) for name, expression in rule.item.items()})
