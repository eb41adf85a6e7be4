"""From the rows of one order to its document, at the moment of sending and never from an event."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from daemon.document.normalise import Normaliser
from daemon.document.order import Breach, breaches, document_of, without_customer
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
from daemon.mapping.attributes import ORDER, PERSONAL
from daemon.mapping.erasure import ERASED
from daemon.mapping.expressions import Expression
from daemon.mapping.faults import AbsentRow, Fault, NotYet
from daemon.mapping.graph import Empties, Graph
from daemon.mapping.model import MAX_OFFSET, ListRule, Mapping, Rule
from daemon.mapping.operators import is_missing
from daemon.mapping.rows import StoredRow, Wanted, targets

Values = dict[str, Any]
DERIVED = {f"{one.name}.{part.name}" for one in ORDER for part in one.parts if part.derived}
"""What the engine fills in from another attribute, whose problems are its own."""


class Assembler:
    """Makes documents by one mapping, for one of its destinations. Holds no state between orders."""

    def __init__(self, mapping: Mapping, destination: str | None = None) -> None:
        self._mapping = mapping
        rule = mapping.destinations.get(destination) if destination is not None else None
        own = rule.when if rule is not None else None
        conditions = {"when": mapping.when, f"destinations.{destination}.when": own}
        self._conditions = {name: condition for name, condition in conditions.items() if condition is not None}
        self._rules = {name: _evaluating(rule) for name, rule in mapping.document.items()}
        self._erased_rules = {
            name: rule for name, rule in self._rules.items() if name not in PERSONAL and name != "customer_id"
        }
        self._empties = Empties(mapping)
        self._followed = {
            name: tuple(one for one in source.one.values() if (name, one.name) in mapping.followed)
            for name, source in mapping.sources.items()
        }
        self._below = {
            name: tuple(
                (many.target, many.below)
                for many in source.many.values()
                if many.below is not None and (name, many.name) in mapping.followed
            )
            for name, source in mapping.sources.items()
        }

    def needs(self, rows: Iterable[StoredRow]) -> set[Wanted]:
        """The shared rows that the document may read, but for those by key that are among `rows`.

        The caller fetches them and asks again with all rows, until nothing is left but what it has asked for before:
        those rows are absent.
        """
        wanted: set[Wanted] = set()
        have: set[Wanted] = set()
        for row in rows:
            have.add(Wanted(row.source, row.key))
            followed = self._followed.get(row.source)
            if followed:
                names = targets(followed, self._mapping.sources[row.source].defaults, row)
                wanted.update(Wanted(source, key) for source, key in names)
            if not row.deleted:
                wanted.update(
                    Wanted(source, f"{p}{row.key}", below=True) for source, p in self._below.get(row.source, ())
                )
        return wanted - have

    def complete(
        self, rows: Iterable[StoredRow], read: Callable[[set[Wanted]], Iterable[StoredRow]]
    ) -> list[StoredRow]:
        """The rows with those that they look up, over however many steps; `read` gives what it can of those wanted."""
        have = new = list(rows)
        known: set[Wanted] = set()  # at hand, or asked for
        while wanted := self.needs(new) - known:
            known |= wanted
            known.update(Wanted(row.source, row.key) for row in new)
            new = list(read(wanted))
            have = [*have, *new]
        return have

    def assemble(
        self, order_key: str, rows: Iterable[StoredRow], *, final: bool = False, regardless: bool = False
    ) -> Outcome:
        """What the order comes to. `rows`: all rows of the order and the rows it looks up; others do no harm.

        With `final` the waiting is over: a looked-up row that never arrived counts as missing, and what is still
        unknown makes the order invalid. `regardless`: one that is cancelled or not eligible is taken for an order, to
        tell what would have been sent of it; but none of another destination.
        """
        graph = Graph(self._mapping, self._empties, order_key, rows, final=final)
        try:
            return self._told(graph, order_key, final=final, regardless=regardless)
        finally:
            graph.close()

    def _told(self, graph: Graph, order_key: str, *, final: bool, regardless: bool) -> Outcome:
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
        # Of an erased customer nothing is told, whatever a column that had to be kept may hold.
        stands_for = graph.root.columns.get(ERASED) if graph.root is not None else None
        values = self._values(frame, problems, stands_for)
        if not problems and not values["products"] and not final:
            return Waiting(WaitingReason.NO_PRODUCTS, f"{mapping.root} {graph.root.key if graph.root else ''}")
        normaliser = Normaliser(self._offset(frame, problems), mapping.policies)
        order = normaliser.order(values)
        if not problems and not normaliser.breaches and mapping.hooks.after is not None:
            order = mapping.hooks.finished(order, graph.order, graph.root.key if graph.root else "")
            order = order if stands_for is None else without_customer(order, stands_for)
        problems = problems or self._problems(normaliser.breaches, breaches(order))
        if problems:
            return Invalid(tuple(problems))
        oddities = [*normaliser.oddities, *(Oddity.LOOKUP_MISSING for _ in graph.missing)]
        return Ready(document_of(order), tuple(oddities))

    def _offset(self, frame: Values, problems: list[str]) -> int:
        """Seconds to add to `time_of_purchase`: a function of the order, never of now, so that it never flips back."""
        expression = self._mapping.time_of_purchase_offset_secs
        if expression is None:
            return 0
        try:
            value = expression.evaluate(frame)
        except Fault as fault:
            problems.append(str(fault))
            return 0
        if is_missing(value):
            return 0
        if type(value) is not int or abs(value) > MAX_OFFSET:
            problems.append(f"{expression.label}: must be whole seconds, at most {MAX_OFFSET} either way")
            return 0
        return value

    def _values(self, frame: Values, problems: list[str], stands_for: str | None) -> Values:
        """The value of every rule; faults are collected, so that one look shows them all."""
        values: Values = {}
        for name, evaluate in (self._rules if stands_for is None else self._erased_rules).items():
            try:
                values[name] = evaluate(frame)
            except Fault as fault:
                problems.append(str(fault))
        return values if stands_for is None else {**values, "customer_id": stands_for}

    def _problems(self, turning: list[Breach], breaking: list[Breach]) -> list[str]:
        """What is told of values that could not be turned, and of those that break a rule."""
        seen = {breach.path for breach in turning}
        found = [*turning, *(breach for breach in breaking if breach.path not in seen)]
        told = [breach for breach in found if breach.attribute not in DERIVED or self._expression(breach.attribute)]
        return [self._problem(breach) for breach in told or found]

    def _problem(self, breach: Breach) -> str:
        """The breach with the place and the expression that made the value."""
        hooks = self._mapping.hooks
        what = breach.what if hooks.after is None else f"{breach.what}; it has passed `after` of {hooks.file}"
        expression = self._expression(breach.attribute)
        if expression is None:
            return f"{breach.path}: {what}"
        return f"{expression.place}: {breach.path}: {' '.join(expression.text.split())}: {what}"

    def _expression(self, attribute: str) -> Expression | None:
        name, _, part = attribute.partition(".")
        rule = self._mapping.document.get(name)
        if rule is None or isinstance(rule, Expression):
            return rule
        if isinstance(rule, dict):
            return rule.get(part)
        return next((item.item[part] for item in rule if part in item.item), None)


def _evaluating(rule: Rule) -> Callable[[Values], Any]:
    """What gives the value of a rule."""
    if isinstance(rule, Expression):
        return rule.evaluate
    if isinstance(rule, dict):
        return partial(_parts, rule)
    return partial(_items, rule)


def _parts(rule: dict[str, Expression], frame: Values) -> Values:
    return {name: expression.evaluate(frame) for name, expression in rule.items()}


def _items(rules: tuple[ListRule, ...], frame: Values) -> list[Values]:
    """The items of a list's rules: the loops of each nested, the outer one first."""
    made: list[Values] = []
    for rule in rules:
        _loop(rule, 0, dict(frame), made)
    return made


def _loop(rule: ListRule, depth: int, frame: Values, made: list[Values]) -> None:
    if depth < len(rule.loops):
        name, expression = rule.loops[depth]
        values = expression.evaluate(frame)
        if not isinstance(values, list | tuple):
            fault = Fault("`for` needs a list; null is none, write (x or [])")
            fault.where = expression.label
            raise fault
        for value in values:
            frame[name] = value
            _loop(rule, depth + 1, frame, made)
    elif rule.when is None or rule.when.evaluate(frame):
        made.append({name: expression.evaluate(frame) for name, expression in rule.item.items()})
