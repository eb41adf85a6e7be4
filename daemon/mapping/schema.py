"""Compiles what a mapping says about its sources, on demand, and records which columns and relations are used."""

from __future__ import annotations

from collections.abc import Mapping as Dict
from dataclasses import replace
from typing import Any

from daemon.mapping.derive import Drafts
from daemon.mapping.draft import RelationDraft
from daemon.mapping.expressions import Expression, compile_expression
from daemon.mapping.faults import Mistake
from daemon.mapping.functions import FUNCTIONS, Function
from daemon.mapping.kinds import ANY, VALUE, Kind, ListKind, RowKind
from daemon.mapping.model import SortKey, SourceMap
from daemon.mapping.place import Place
from daemon.mapping.tree import Problems, Scalar
from daemon.mapping.uses import ANYWHERE, Lead, Read


class SchemaBuilder:
    """Answers what `row.name` is. A derived column or relation is compiled when it is first needed.

    A derived column that needs itself, over whichever steps, is a mistake: Jinja2 would recurse for ever.
    """

    def __init__(self, drafts: Drafts, sources: dict[str, SourceMap], root: str, problems: Problems) -> None:
        self._drafts = drafts
        self._sources = sources
        self._root = root
        self._problems = problems
        self._done: dict[tuple[str, str], Kind] = {}
        self._busy: list[tuple[str, str]] = []
        self.functions: dict[str, Function] = {**FUNCTIONS}  # and those of hooks, as above
        self.constants: dict[str, Any] = {}  # by name; filled before anything else is compiled
        self.columns: dict[str, dict[str, Place]] = {name: {} for name in drafts}
        self.followed: set[tuple[str, str]] = set()
        self.reads: dict[str, set[Read]] = {}  # by the path of the expression that reads
        self._reading: list[set[Read]] = []

    def use_column(self, source: str, name: str, place: Place) -> None:
        """Record that a column is named."""
        self.columns[source].setdefault(name, place)
        self._note((source, name))

    def _note(self, read: Read) -> None:
        if self._reading:
            self._reading[-1].add(read)

    def anywhere(self, name: str) -> None:
        """Record that a column of some row is named whose source is not known."""
        self._note((ANYWHERE, name))

    def column(self, source: str, name: str, place: Place) -> Kind:
        """The kind of `row['name']`."""
        self.use_column(source, name, place)
        return VALUE

    def relations(self, source: str) -> list[str]:
        """The names that can be navigated from a row of that source."""
        return list(self._drafts[source].relations)

    def attribute(self, source: str, name: str, place: Place) -> Kind:
        """The kind of `row.name`: derived column, relation, else column."""
        draft = self._drafts[source]
        if name in draft.broken:
            return ANY
        if not self.declares(source, name):
            return self.column(source, name, place)
        relation = draft.relations.get(name)
        if relation is not None:
            self.followed.add((source, name))
            self._note_relation(relation)
        else:
            self._note(f"sources.{source}.let.{name}")
        if relation is not None and not relation.many:
            return RowKind(relation.target)
        return self._compiled(source, name)

    def declares(self, source: str, name: str) -> bool:
        """Whether a derived column or relation has that name."""
        return name in self._sources[source].names

    def _note_relation(self, relation: RelationDraft) -> None:
        """Whoever follows a relation reads the columns that lead over it, and what its filter and sort read."""
        self._note(f"{relation.path}.where")
        self._note(f"{relation.path}.sort")
        for match in relation.match:
            if match.my is not None:
                self._note(Lead(self._root if match.of_order else relation.source, match.my))

    def _compiled(self, source: str, name: str) -> Kind:
        """Compile a derived column or a to-many relation's filter and sort once, and give its kind."""
        key = (source, name)
        if key in self._done:
            return self._done[key]
        if key in self._busy:
            steps = " needs ".join(f"{step[0]}.{step[1]}" for step in [*self._busy[self._busy.index(key) :], key])
            raise Mistake(f"needs itself: {steps}; for the column of that name write row['{name}']")
        self._busy.append(key)
        try:
            self._done[key] = (
                self._relation(source, name) if name in self._drafts[source].relations else self._let(source, name)
            )
        finally:
            self._busy.pop()
        return self._done[key]

    def _let(self, source: str, name: str) -> Kind:
        text = self._drafts[source].lets[name]
        expression = self.expression(text, f"sources.{source}.let.{name}", self.row_names(source))
        if expression is None:
            return ANY
        self._sources[source].let[name] = expression
        return expression.kind

    def _relation(self, source: str, name: str) -> Kind:
        relation = self._drafts[source].relations[name]
        names = self.row_names(relation.target)
        where = None
        if relation.where is not None:
            where = self.expression(relation.where, f"{relation.path}.where", names)
        sort = []
        for part in relation.sort:
            descending = part.text.strip().startswith("-")
            path = part.text.strip().removeprefix("-")
            expression = self._sort(Scalar(path, part.place), f"{relation.path}.sort", names)
            if expression is not None:
                sort.append(SortKey(expression, descending))
        made = self._sources[source].many[name]
        self._sources[source].many[name] = replace(made, where=where, sort=tuple(sort))
        return ListKind(RowKind(relation.target))

    def _sort(self, path: Scalar, attribute: str, names: Dict[str, Kind]) -> Expression | None:
        if not all(part.isidentifier() for part in path.text.split(".")):
            self._problems.add(
                path.place,
                attribute,
                f"{path.text}: must be a column or path such as -variant.position; use `let:` for more",
            )
            return None
        return self.expression(Scalar(f"row.{path.text}", path.place), attribute, names)

    def row_names(self, source: str) -> dict[str, Kind]:
        """The names of an expression that hangs on a row of that source."""
        return {"row": RowKind(source), "order": RowKind(self._root)}

    def expression(self, text: Scalar, attribute: str, names: Dict[str, Kind]) -> Expression | None:
        """Compile one expression; None where it has a mistake, which is noted."""
        self._reading.append(self.reads.setdefault(attribute, set()))
        try:
            return compile_expression(text.text, attribute, text.place, names, self)
        except Mistake as mistake:
            shown = " ".join(text.text.split())
            self._problems.add(text.place, attribute, f"{shown}: {mistake}" if shown else str(mistake))
            return None
        finally:
            self._reading.pop()

    def compile_all(self) -> None:
        """Compile every derived column and relation, used or not, so that every mistake is found."""
        for source, draft in self._drafts.items():
            for name in (*draft.relations, *draft.lets):
                if name in draft.lets or draft.relations[name].many:
                    try:
                        self._compiled(source, name)
                    except Mistake as mistake:
                        place = draft.lets[name].place if name in draft.lets else draft.relations[name].place
                        self._problems.add(place, f"sources.{source}.{name}", str(mistake))
