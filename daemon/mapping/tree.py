"""A YAML 1.2 file as a tree of texts, each with its place. Every scalar stays text: `NO` and `on` are words."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from daemon.errors import MappingError
from daemon.mapping.faults import near
from daemon.mapping.place import Place


@dataclass(frozen=True, slots=True)
class Scalar:
    """One text."""

    text: str
    place: Place


@dataclass(frozen=True, slots=True)
class Items:
    """A list."""

    items: tuple[Tree, ...]
    place: Place


@dataclass(frozen=True, slots=True)
class Table:
    """Keys and what they hold; `keys` has the place of each key."""

    entries: dict[str, Tree]
    keys: dict[str, Place]
    place: Place


Tree: TypeAlias = Scalar | Items | Table


class Problems:
    """Collects what is wrong with a mapping file, each with its place."""

    def __init__(self) -> None:
        self._found: dict[tuple[Place, str], str] = {}

    def add(self, place: Place, path: str, what: str) -> None:
        """Note one problem; the same text at the same place is noted once."""
        text = f"{place}: {path}: {what}" if path else f"{place}: {what}"
        self._found.setdefault((place, text), text)

    def __len__(self) -> int:
        return len(self._found)

    def texts(self) -> list[str]:
        """All problems in the file's order."""
        return [text for _, text in sorted(self._found.items())]


def read_tree(path: Path, problems: Problems) -> Table:
    """Read a YAML file. Raises MappingError where it cannot be read or is no YAML; notes repeated keys."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise MappingError([f"{path}: cannot be read: {error.strerror}; correct `mapping:` in the settings"]) from error
    except UnicodeDecodeError as error:
        raise MappingError([f"{path}: is not UTF-8; save it as UTF-8"]) from error
    try:
        root = YAML(typ="safe", pure=True).compose(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = Place(path.name, mark.line + 1, mark.column + 1) if mark else Place(path.name, 1, 1)
        what = " ".join(str(part) for part in (error.context, error.problem) if part)
        hint = "quote an expression that holds `: `, ` #`, or that starts with a quote, bracket or brace"
        if "\\t" in what:
            hint = "indent with blanks instead of tabs"
        raise MappingError([f"{place}: is not YAML: {what}; {hint}"]) from error
    except YAMLError as error:
        raise MappingError([f"{path.name}: is not YAML: {' '.join(str(error).split())}"]) from error
    tree = _tree(root, path.name, problems, "") if root is not None else None
    if not isinstance(tree, Table):
        raise MappingError([f"{path.name}:1:1: must be a table of keys: version, root, sources, document"])
    return tree


def _tree(node: Node, file: str, problems: Problems, path: str) -> Tree:
    place = Place(file, node.start_mark.line + 1, node.start_mark.column + 1)
    if isinstance(node, SequenceNode):
        return Items(tuple(_tree(item, file, problems, path) for item in node.value), place)
    if isinstance(node, MappingNode):
        entries: dict[str, Tree] = {}
        keys: dict[str, Place] = {}
        for key_node, value_node in node.value:
            key_place = Place(file, key_node.start_mark.line + 1, key_node.start_mark.column + 1)
            if not isinstance(key_node, ScalarNode):
                problems.add(key_place, path, "a key must be a text")
                continue
            key = str(key_node.value)
            inner = f"{path}.{key}" if path else key
            if key in entries:
                problems.add(key_place, inner, f"stands twice here (first in line {keys[key].line}); keep one")
                continue
            entries[key] = _tree(value_node, file, problems, inner)
            keys[key] = key_place
        return Table(entries, keys, place)
    return Scalar(str(node.value), place)


def plain(tree: Tree) -> Any:
    """The tree without places, for a digest."""
    if isinstance(tree, Scalar):
        return tree.text
    if isinstance(tree, Items):
        return [plain(item) for item in tree.items]
    return {key: plain(value) for key, value in sorted(tree.entries.items())}


class Section:
    """Reads one table of the file key by key, and notes whatever does not fit."""

    def __init__(self, table: Table, path: str, problems: Problems, known: tuple[str, ...]) -> None:
        self._table = table
        self.path = path
        self.place = table.place
        self.problems = problems
        for key, place in table.keys.items():
            if key not in known:
                problems.add(place, self._at(key), f"unknown key; {near(key, known)}")

    def _at(self, key: str) -> str:
        return f"{self.path}.{key}" if self.path else key

    def __contains__(self, key: str) -> bool:
        return key in self._table.entries

    def place_of(self, key: str) -> Place:
        """Where the key stands, or the section where it does not."""
        return self._table.keys.get(key, self.place)

    def wrong(self, key: str, what: str) -> None:
        """Note a problem with one key."""
        self.problems.add(self.place_of(key), self._at(key), what)

    def scalar(self, key: str) -> Scalar | None:
        """The text under a key; None where it is absent or no text, which is noted."""
        tree = self._table.entries.get(key)
        if tree is None or isinstance(tree, Scalar):
            return tree
        self.wrong(key, "must be one text, not a list or a table")
        return None

    def text(self, key: str, *, required: bool = False) -> str | None:
        """The non-empty text under a key."""
        scalar = self.scalar(key)
        if scalar is not None and scalar.text.strip():
            return scalar.text.strip()
        if scalar is not None:
            self.wrong(key, "is empty; give it a text or remove it")
        elif required and key not in self:
            self.problems.add(self.place, self._at(key), "is missing; it is required")
        return None

    def choice(self, key: str, choices: tuple[str, ...], default: str) -> str:
        """One of several words."""
        text = self.text(key)
        if text is None:
            return default
        if text not in choices:
            self.wrong(key, f"must be one of {', '.join(choices)}")
            return default
        return text

    def flag(self, key: str, *, default: bool) -> bool:
        """`true` or `false`."""
        return self.choice(key, ("true", "false"), "true" if default else "false") == "true"

    def names(self, key: str) -> tuple[str, ...]:
        """A text or a list of texts."""
        return tuple(scalar.text for scalar in self.scalars(key))

    def scalars(self, key: str) -> tuple[Scalar, ...]:
        """A text or a list of texts, with their places."""
        tree = self._table.entries.get(key)
        if tree is None:
            return ()
        if isinstance(tree, Scalar):
            return (tree,) if tree.text.strip() else ()
        if isinstance(tree, Items):
            scalars = tuple(item for item in tree.items if isinstance(item, Scalar))
            if len(scalars) == len(tree.items):
                return scalars
        self.wrong(key, "must be a text or a list of texts")
        return ()

    def table(self, key: str) -> Table | None:
        """The table under a key."""
        tree = self._table.entries.get(key)
        if tree is None or isinstance(tree, Table):
            return tree
        if not (isinstance(tree, Scalar) and not tree.text.strip()):
            self.wrong(key, "must be a table of keys")
        return None

    def texts(self, key: str) -> Iterator[tuple[str, Scalar]]:
        """The entries of a table of texts."""
        table = self.table(key)
        if table is None:
            return
        for name, tree in table.entries.items():
            if isinstance(tree, Scalar):
                yield name, tree
            else:
                self.problems.add(table.keys[name], f"{self._at(key)}.{name}", "must be one text")

    def entries(self, key: str) -> Iterator[tuple[str, Tree, Place]]:
        """The entries of a table, with the place of each key."""
        table = self.table(key)
        if table is not None:
            for name, tree in table.entries.items():
                yield name, tree, table.keys[name]

    def get(self, key: str) -> Tree | None:
        """Whatever stands under a key."""
        return self._table.entries.get(key)
