"""Captured shop systems on their way through decoder, fold and assembly, with the mappings shipped for them."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import corpora_loader
from corpora_loader import Corpus
from fold_rig import DecodedOnce, Flow

from daemon.document.assemble import Assembler
from daemon.document.outcome import Outcome
from daemon.mapping.loader import load_mapping
from daemon.mapping.model import Mapping
from daemon.mapping.rows import StoredRow, Wanted

DIRECTORY = Path(__file__).parent / "shops"
MAPPINGS = Path(__file__).parents[1] / "config" / "oms"
NAMES = ("saleor", "spree", "magento2", "sylius")


@dataclass(frozen=True)
class Shop:
    """A capture and the mapping shipped for it."""

    name: str
    mapping: Mapping
    corpus: Corpus
    flow: Flow


@functools.cache
def shop(name: str) -> Shop:
    """One of the shops, decoded once in a process."""
    mapping = load_mapping(MAPPINGS / f"{name}.yaml")
    recorded = corpora_loader.read(DIRECTORY, name)
    wanted = mapping.structure.by_topic()
    corpus = replace(recorded, messages=tuple(one for one in recorded.messages if one.topic in wanted))
    flow = Flow(mapping.structure, DecodedOnce(corpus, mapping.structure), list(corpus.messages))
    return Shop(name, mapping, corpus, flow)


def outcomes(mapping: Mapping, rows: Iterable[StoredRow]) -> dict[str, Outcome]:
    """What every order comes to, by its key in the OMS, from all rows of a store."""
    assembler = Assembler(mapping)
    every = list(rows)
    orders: dict[str, list[StoredRow]] = {}
    for row in every:
        if row.root is not None:
            orders.setdefault(row.root, []).append(row)

    def read(wanted: set[Wanted]) -> list[StoredRow]:
        return [row for row in every if any(one.fits(row) for one in wanted)]

    return {key: assembler.assemble(key, assembler.complete(own, read)) for key, own in orders.items()}
