"""What follows from the relations: keys, which source belongs to orders through which step, what is looked up."""

from __future__ import annotations

from collections import deque
from types import MappingProxyType

from daemon.mapping.draft import RelationDraft, SourceDraft
from daemon.mapping.faults import near
from daemon.mapping.model import Many, One
from daemon.mapping.structure import Link, Role, Source, Structure, version_of
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


def infer_keys(drafts: Drafts, problems: Problems) -> None:
    """Where a source declares no key: the columns by which relations name its whole row are its key."""
    declared = {name for name, draft in drafts.items() if draft.key}
    relations = [relation for draft in drafts.values() for relation in draft.relations.values()]
    for relation in relations:
        if relation.many or relation.target in declared:
            continue
        columns = tuple(match.their for match in relation.match if match.my is not None)
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
            source.key = tuple(match.my for match in relation.match if match.my is not None)
            source.key_place = relation.place


def _owner_link(relation: RelationDraft, parent: SourceDraft) -> Link | None:
    """The step from a child of this to-many relation to its parent; None where it does not name the parent's key."""
    theirs = {match.my: match.their for match in relation.match if match.my is not None}
    if not parent.key or not set(parent.key) <= theirs.keys():
        return None
    return Link(
        name=f"{relation.source}.{relation.name}",
        source=relation.target,
        target=parent.name,
        columns=tuple(theirs[column] for column in parent.key),
        constants=tuple((match.their, match.constant) for match in relation.match if match.constant is not None),
    )


def find_owners(drafts: Drafts, root: str, problems: Problems) -> dict[str, Link]:
    """The owner step of every source that is reached from the root by to-many relations, breadth first."""
    owners: dict[str, Link] = {}
    weak: list[RelationDraft] = []
    queue = deque([root])
    while queue:
        parent = drafts[queue.popleft()]
        for relation in parent.relations.values():
            if not relation.many:
                continue
            if relation.target == root:
                problems.add(
                    relation.place,
                    relation.path,
                    f"leads to the root {root}; a row of the root belongs to no other order",
                )
                continue
            link = _owner_link(relation, parent)
            if link is None:
                weak.append(relation)
            elif relation.target not in owners:
                owners[relation.target] = link
                queue.append(relation.target)
            else:
                owners[relation.target] = _joined(owners[relation.target], link, relation, problems)
    for relation in weak:
        if relation.target not in owners:
            key = ", ".join(drafts[relation.source].key) or "unknown: declare `key:`"
            problems.add(
                relation.place,
                relation.path,
                f"does not match the whole key of {relation.source} ({key}), so a row of {relation.target} cannot find"
                " its order; match those columns, or let another to-many relation own that source",
            )
    _refuse_many_elsewhere(drafts, {root, *owners}, problems)
    return owners


def _joined(owner: Link, other: Link, relation: RelationDraft, problems: Problems) -> Link:
    """The owner step that also serves a second to-many relation to the same source."""
    if owner.target == other.target and owner.columns == other.columns:
        constants = tuple(constant for constant in owner.constants if constant in other.constants)
        return Link(owner.name, owner.source, owner.target, owner.columns, constants)
    if owner.constants:
        problems.add(
            relation.place,
            relation.path,
            f"a row of {owner.source} belongs to {owner.target} through {owner.name} under a constant, and cannot"
            f" belong to {other.target} too; one source has one owner",
        )
    return owner


def _refuse_many_elsewhere(drafts: Drafts, own: set[str], problems: Problems) -> None:
    for draft in drafts.values():
        for relation in draft.relations.values():
            if relation.many and draft.name not in own:
                problems.add(
                    relation.place,
                    relation.path,
                    f"{draft.name} belongs to no order, so its rows can have no to-many relation; use an owned source",
                )


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
    mine = {match.their: match.my for match in relation.match if match.my is not None}
    if set(mine) == set(target.key) and len(mine) == len(relation.match):
        return Link(
            name=f"{relation.source}.{relation.name}",
            source=relation.source,
            target=relation.target,
            columns=tuple(mine[column] for column in target.key),
        )
    if relation.target not in own:
        problems.add(
            relation.place,
            relation.path,
            f"must match the key of {relation.target} ({', '.join(target.key)}) and nothing else: its rows are looked"
            " up by key; correct the match, or `key:` of that source",
        )
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


def many_relation(relation: RelationDraft) -> Many:
    """The to-many relation, without its filter and sort."""
    return Many(relation.name, relation.source, relation.target, relation.match, relation.place)


def build_structure(drafts: Drafts, root: str, owners: dict[str, Link], ones: dict[str, list[One]]) -> Structure:
    """The structure that ingest and state work by."""
    sources = {}
    for name, draft in drafts.items():
        owner = owners.get(name)
        role = Role.ROOT if name == root else Role.OWNED if owner is not None else Role.SHARED
        refs = tuple(
            one.link
            for one in ones[name]
            if one.link is not None and one.refresh and _elsewhere(one.link, owner, owners)
        )
        sources[name] = Source(
            name=name,
            topic=draft.topic,
            role=role,
            key=draft.key or None,
            types=MappingProxyType(dict(draft.types)),
            drop=frozenset(draft.drop),
            modes=draft.modes,
            owner=owner,
            refs=refs,
            required=draft.required,
        )
    return Structure(root, MappingProxyType(sources), version_of(root, sources))


def _elsewhere(link: Link, owner: Link | None, owners: dict[str, Link]) -> bool:
    """Whether the looked-up row is none of the order's own: the order's tree marks the order due by itself."""
    own_order = owner is not None and link.target == owner.target and link.columns == owner.columns
    return link.target not in owners and not own_order
