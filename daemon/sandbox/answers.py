"""The bodies that the sandbox answers with, in the shapes that the provider's pages describe or let one expect."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from daemon.sandbox.contract import Path, Problem
from daemon.sandbox.options import SandboxOptions


@dataclass(frozen=True, slots=True)
class Answer:
    """One HTTP answer. `headers` are those beside the content type and length."""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


def as_json(value: Any) -> bytes:
    """ASCII JSON, so that every string, a lone surrogate too, can be sent."""
    return json.dumps(value, separators=(",", ":")).encode("ascii")


def plain(status: int, text: str) -> Answer:
    """The documented envelope around a sentence."""
    return Answer(status, as_json({"status": str(status), "response": text}))


def received() -> Answer:
    return Answer(200, as_json({"message": "Orders received"}))


def over_budget(retry_after_secs: int) -> Answer:
    """The documented 429, which has an envelope of its own."""
    body = {"error": "rate_limit_error", "retry_after_seconds": retry_after_secs}
    return Answer(429, as_json(body), {"Retry-After": str(retry_after_secs)})


def refused(problems: Collection[Problem], options: SandboxOptions) -> Answer:
    """A 400, or where bad orders are `listed` the 200, that tells of these problems in the shape asked for."""
    status = 200 if options.refusal == "listed" else 400
    errors = [
        {
            "order_id": problem.order_id,
            "message": problem.message,
            "json_path": json_path(_located(problem, options.json_path_base)),
        }
        for problem in problems
    ]
    match options.error_shape:
        case "encoded":
            return Answer(status, as_json({"status": str(status), "response": json.dumps(errors)}))
        case "list":
            return Answer(status, as_json({"status": str(status), "response": errors}))
        case "bare":
            return Answer(status, as_json(errors))
        case "detail":
            return Answer(status, as_json({"detail": [_detail(problem) for problem in problems]}))
        case "text":
            return plain(status, "Invalid input")
        case "error":
            return Answer(status, as_json({"error": "Invalid input"}))
        case "empty":
            return Answer(status, b"")


def json_path(path: Sequence[str | int]) -> str:
    """`$[3].products[0].price`."""
    return "$" + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)


def _located(problem: Problem, base: str) -> Path:
    if problem.index is None or base == "order":
        return problem.path
    return (problem.index, *problem.path)


def _detail(problem: Problem) -> dict[str, Any]:
    place = [] if problem.index is None else [problem.index]
    return {"type": "value_error", "loc": ["body", *place, *problem.path], "msg": problem.message}
