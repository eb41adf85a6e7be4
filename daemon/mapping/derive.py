"""What follows from the relations: keys, which source belongs to orders through which step, what is looked up."""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from types import MappingProxyType

from daemon.mapping.draft import RelationDraft, SourceDraft
from daemon.mapping.faults import near
from daemon.mapping.model import Many, One
from daemon.mapping.structure import FIXED, Link, Role, Source, Structure, version_of
from daemon.mapping.tree import Problems

Drafts = dict[str, SourceDraft]


def known_targets(drafts: Drafts, problems: Problems) -> None:
    """Take out relations to sources that are not declared, and note them."""
    for draft in drafts.values():
        for relation in list(draft.relations.values()):
            if relation.target not in drafts:
                problems.add(
                    relation.place,
                    relation.path,
                    f"unknown source `{relation.target}`; {near(relation.target, drafts)}",
                )
                del draft.relations[relation.name]
                draft.broken.add(relation.name)


def infer_keys(drafts: Drafts, problems: Problems) -> None:
    """Where a source declares no key: the columns by which relations name its whole row are its key."""
    declared = {name for name, draft in drafts.items() if draft.key}
    relations = [relation for draft in drafts.values() for relation in draft.relations.values()]
    for relation in relations:
        if relation.many or relation.target in declared:
            continue
        columns = tuple(match.their for match in relation.match if match.their is not None and not match.of_order)
        target = drafts[relation.target]
        if not target.key:
            target.key, target.key_place = columns, relation.place
        elif set(target.key) != set(columns):
            problems.add(
                relation.place,
                relation.path,
                f"matches {', '.join(columns)}, another relation {', '.join(target.key)}: declare its `key:`",
            )
    for relation in relations:
        source = drafts[relation.source]
        if relation.many and not source.key:
            source.key = tuple(match.my for match in relation.match if match.joins and match.my is not None)
            source.key_place = relation.place


def _owner_link(relation: RelationDraft, parent: SourceDraft) -> Link | None:
    """The step from a child of this to-many relation to its parent; None where it does not name the parent's key."""
    theirs = {match.my: match.their for match in relation.match if match.joins}
    columns = [theirs.get(column) for column in parent.key]
    if not columns or None in columns:
        return None
    return Link(
        name=f"{relation.source}.{relation.name}",
        source=relation.target,
        target=parent.name,
        columns=tuple(column for column in columns if column is not None),
        constants=tuple(
            (match.their, match.constant)
            for match in relation.match
            if match.their is not None and match.constant is not None
        ),
    )


Owners = dict[str, list[Link]]
"""The steps up of each source, in the order in which they are tried."""


def find_owners(drafts: Drafts, root: str, problems: Problems) -> Owners:
    """The owner steps of every source that is reached from the root by to-many relations, breadth first.

    A row belongs where the first step leads whose columns are set: a tax row to its order, or else to its line.
    """
    owners: Owners = {}
    weak: list[RelationDraft] = []
    queue = deque([root])
    while queue:
        parent = drafts[queue.popleft()]
        for relation in parent.relations.values():
            if not relation.many:
                continue
            if relation.target == root and parent.name != root:
                problems.add(
                    relation.place,
                    relation.path,
                    f"leads to the root {root}; only {root} itself can have rows of {root} below it",
                )
                continue
            link = _owner_link(relation, parent)
            if link is None:
                weak.append(relation)
                continue
            if relation.target not in owners and relation.target != root:
                queue.append(relation.target)
            _add_owner(owners.setdefault(relation.target, []), link)
    for relation in weak:
        if relation.target not in owners:
            problems.add(relation.place, relation.path, _lost(relation, drafts, "order"))
    return owners


def find_shared_owners(drafts: Drafts, own: set[str], problems: Problems) -> Owners:
    """The steps from shared rows to the shared rows that they hang below, such as from a product's tags to it."""
    owners: Owners = {}
    for draft in drafts.values():
        for relation in draft.relations.values():
            if not relation.many or draft.name in own:
                continue
            link = _owner_link(relation, draft)
            if relation.target in own:
                problems.add(
                    relation.place,
                    relation.path,
                    f"{draft.name} belongs to no order and {relation.target} does; relate {relation.target} to the"
                    " order or to rows of it",
                )
            elif link is None:
                problems.add(relation.place, relation.path, _lost(relation, drafts, f"row of {draft.name}"))
            else:
                links = owners.setdefault(relation.target, [])
                _add_owner(links, link)
                if len(links) > 1 and not all(one.constants for one in links):
                    problems.add(
                        relation.place,
                        relation.path,
                        f"rows of {relation.target} hang below {links[0].target} already; two such relations need a"
                        " constant each that tells their rows apart",
                    )
    return owners


def _lost(relation: RelationDraft, drafts: Drafts, whose: str) -> str:
    key = ", ".join(drafts[relation.source].key) or "unknown: declare `key:`"
    return (
        f"does not match the whole key of {relation.source} ({key}), so a row of {relation.target} cannot find its"
        f" {whose}; match those columns, or let another to-many relation own that source"
    )


def _add_owner(links: list[Link], new: Link) -> None:
    """Add a step; two steps over the same columns are one, under the constants that both have."""
    for index, link in enumerate(links):
        if (link.target, link.columns) == (new.target, new.columns):
            constants = tuple(constant for constant in link.constants if constant in new.constants)
            links[index] = replace(link, constants=constants)
            return
    links.append(new)


def unreached(drafts: Drafts, root: str) -> list[SourceDraft]:
    """Sources that no relation leads to from the root."""
    seen, queue = {root}, deque([root])
    while queue:
        for relation in drafts[queue.popleft()].relations.values():
            if relation.target not in seen:
                seen.add(relation.target)
                queue.append(relation.target)
    return [draft for name, draft in drafts.items() if name not in seen]


def look_up_link(relation: RelationDraft, drafts: Drafts, own: set[str], problems: Problems) -> Link | None:
    """The step of a to-one relation to its target's key; None where the target is found among the order's own rows."""
    target = drafts[relation.target]
    parts = {
        match.their: match.my if match.joins else f"{FIXED}{match.constant}"
        for match in relation.match
        if match.their is not None and not match.of_order
    }
    elsewhere = any(match.of_order for match in relation.match)
    if set(parts) == set(target.key) and not elsewhere:
        return Link(
            name=f"{relation.source}.{relation.name}",
            source=relation.source,
            target=relation.target,
            columns=tuple(str(parts[column]) for column in target.key),
            constants=tuple(
                (match.my, match.constant)
                for match in relation.match
                if match.their is None and match.my is not None and match.constant is not None
            ),
        )
    if relation.target not in own:
        key = ", ".join(target.key)
        what = (
            "matches a column of the order; only the order's own rows can be found by one: name a column of this row"
            if elsewhere
            else f"must match the key of {relation.target} ({key}) and nothing else: its rows are looked up by key; "
            "correct the match, or `key:` of that source"
        )
        problems.add(relation.place, relation.path, what)
    return None


def one_relation(relation: RelationDraft, link: Link | None) -> One:
    """The to-one relation as expressions use it."""
    return One(
        name=relation.name,
        source=relation.source,
        target=relation.target,
        match=relation.match,
        place=relation.place,
        refresh=relation.refresh,
        required=relation.required,
        link=link,
    )


def build_structure(
    drafts: Drafts, root: str, owners: Owners, shared: Owners, ones: dict[str, list[One]], phone_region: str
) -> Structure:
    """The structure that ingest and state work by. Phone numbers that are hashed are read as from `phone_region`."""
    sources = {}
    for name, draft in drafts.items():
        above = tuple(owners.get(name, shared.get(name, [])))
        role = Role.ROOT if name == root else Role.OWNED if name in owners else Role.SHARED
        refs = tuple(
            one.link
            for one in ones[name]
            if one.link is not None and one.refresh and _elsewhere(one.link, above, owners)
        )
        sources[name] = Source(
            name=name,
            topic=draft.topic,
            role=role,
            key=draft.key or None,
            types=MappingProxyType(dict(draft.types)),
            drop=frozenset(draft.drop),
            hashed=MappingProxyType(
                {
                    column: kind.text if kind.text == "email" else f"{kind.text} {phone_region}"
                    for column, kind in draft.hashed.items()
                }
            ),
            modes=draft.modes,
            owners=above,
            refs=refs,
            required=draft.required,
        )
    return Structure(root, MappingProxyType(sources), version_of(root, sources))


def _elsewhere(link: Link, above: tuple[Link, ...], owners: Owners) -> bool:
    """Whether the looked-up row is none of the order's own: the order's tree marks the order due by itself."""
    back = any((link.target, link.columns) == (owner.target, owner.columns) for owner in above)
    return link.target not in owners and not back


def many_relation(relation: RelationDraft, shared: Owners) -> Many:
    """The to-many relation, without its filter and sort."""
    steps = shared.get(relation.target)
    below = None
    if steps is not None:
        below = f"{relation.source}/" if len({link.target for link in steps}) > 1 else ""
    return Many(relation.name, relation.source, relation.target, relation.match, relation.place, below=below)
