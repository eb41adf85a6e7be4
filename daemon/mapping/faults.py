"""What can go wrong with an expression: a mistake in its text, a fault with one order, a part that is not there yet."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class Mistake(Exception):  # noqa: N818 - found while loading, becomes one of MappingError.problems
    """The text of an expression or of a section is wrong. The message says what and how to cure it."""


class Fault(Exception):  # noqa: N818 - a value of one order's rows does not fit; becomes one of Invalid.problems
    """An expression cannot be evaluated for this order. The message never holds a row value.

    `where` (place, attribute, expression) is set by the innermost expression, `needed_by` by the outermost.
    """

    def __init__(self, what: str) -> None:
        super().__init__(what)
        self.what = what
        self.where: str | None = None
        self.needed_by: str | None = None

    def __str__(self) -> str:
        suffix = f" (needed by {self.needed_by})" if self.needed_by else ""
        return f"{self.where}: {self.what}{suffix}" if self.where else self.what


class NotYet(Exception):  # noqa: N818 - a signal: the whole order waits
    """Something that the order needs has not arrived. `detail` names source, relation, column or key."""

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail


class UnknownValue(NotYet):
    """A column's value is not known, which is not null."""


class AbsentRow(NotYet):
    """A looked-up row has not arrived."""


def near(name: str, known: Iterable[str]) -> str:
    """`; did you mean x?` where a known name is close, else the known names, if there are few."""
    names = sorted(set(known))
    close = difflib.get_close_matches(name, names, n=1)
    if close:
        return f"did you mean `{close[0]}`?"
    return f"known: {', '.join(names)}" if names else "none is declared"
