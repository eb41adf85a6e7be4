"""The text of an expression as Jinja2's syntax tree, with every number exact."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from decimal import Decimal

from jinja2 import Environment, TemplateSyntaxError, nodes
from jinja2.lexer import Lexer, Token
from jinja2.parser import Parser

from daemon.mapping.faults import Mistake


class _ExactLexer(Lexer):
    """Jinja2's lexer, but `0.1` is a Decimal and never a float."""

    def wrap(
        self,
        stream: Iterable[tuple[int, str, str]],
        name: str | None = None,
        filename: str | None = None,
    ) -> Iterator[Token]:
        for line, kind, text in stream:
            if kind == "float":
                yield Token(line, kind, Decimal(text.replace("_", "")))  # type: ignore[arg-type]
            else:
                yield from super().wrap([(line, kind, text)], name, filename)


class _Syntax(Environment):
    """Only parses: nothing of Jinja2 ever runs."""

    _exact: _ExactLexer | None = None

    @property
    def lexer(self) -> Lexer:
        if self._exact is None:
            self._exact = _ExactLexer(self)
        return self._exact


_SYNTAX = _Syntax()


_OTHER_LANGUAGES = (
    (re.compile(r"\{\{|\{%"), "write the expression alone, without {{ }}"),
    (re.compile(r"&&"), "write `and`"),
    (re.compile(r"\|\|"), "write `or`, or ~ to put texts together"),
    (re.compile(r"<>|[!=]=="), "write == and !="),
    (re.compile(r"(?<![=!<>])=(?!=)"), "write == to compare"),
    (re.compile(r"\?"), "write `a if c else b`, or coalesce(a, b)"),
)
"""What is written elsewhere, and what is meant here; the first that fits is told."""


def _cure(text: str) -> str:
    return next(
        (cure for pattern, cure in _OTHER_LANGUAGES if pattern.search(text)),
        "write one expression, quoted where YAML needs it",
    )


def parse_expression(text: str) -> nodes.Expr:
    """The syntax tree of one expression. Raises Mistake."""
    if not text.strip():
        raise Mistake("is empty; write an expression, `none` for null")
    try:
        parser = Parser(_SYNTAX, text, state="variable")
        tree = parser.parse_expression()
        if not parser.stream.eos:
            rest = parser.stream.current.value
            raise Mistake(f"goes on after its end at `{rest}`; {_cure(text)}")
    except TemplateSyntaxError as error:
        raise Mistake(f"is not an expression: {error.message}; {_cure(text)}") from error
    tree.set_environment(_SYNTAX)
    return tree
