"""Decode: messages a second from bytes to changes, for each shape of message that was recorded from real connectors.

Compared with orjson alone on the same values, which reads the JSON and knows nothing of it. Avro has no such base.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import corpora_loader
import orjson
from rig import Figure, Size, in_turn

from daemon.ingest.debezium import Decoder

LEAST_SECS = 0.2  # of one measurement


def measure(size: Size) -> list[Figure]:
    """One figure for each corpus."""
    return [_of(name, size) for name in corpora_loader.NAMES]


def _of(name: str, size: Size) -> Figure:
    corpus = corpora_loader.load(name)
    messages = corpus.of_tables()
    decode = Decoder(corpora_loader.structure_for(corpus), corpora_loader.avro_of(corpus)).decode
    values = [message.value for message in messages if message.value is not None]
    figure = Figure(f"decode {name}", "messages/s", [], note=f"{sum(map(len, values)) // len(values)} bytes a value")

    def decoded() -> None:
        for message in messages:
            decode(message)

    def read() -> None:
        for value in values:
            orjson.loads(value)

    decoded()  # what is learned of schemas is learned
    candidates: list[Callable[[], None]] = [lambda: figure.values.append(_rate(decoded, len(messages)))]
    if not corpus.schemas:
        figure.to = "orjson alone"
        candidates.append(lambda: figure.to_values.append(_rate(read, len(values))))
    in_turn(size.rounds, candidates)
    return figure


def _rate(work: Callable[[], None], count: int) -> float:
    started, times = time.perf_counter(), 0
    while (elapsed := time.perf_counter() - started) < LEAST_SECS:
        work()
        times += 1
    return times * count / elapsed
