"""Logs are events: a constant message and keys. No row value and no secret may reach them.

Everything goes to standard error, so that standard output stays what a command prints. An exception is shown by its
type and the places it went through; its text only where it is one of ours or the system's, because the texts of other
libraries quote the data they choked on.
"""

from __future__ import annotations

import logging
import sys
import traceback
from collections.abc import MutableMapping
from typing import Any, Literal, TextIO

import structlog

from daemon.errors import OrderSyncError

LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
QUIET = ("httpx", "httpcore", "uvicorn.access", "asyncio")  # they write a line for each request or connection
FRAMES = 12  # the innermost places of a long chain say enough

Event = MutableMapping[str, Any]


def configure_logs(form: Literal["json", "console"], level: str, stream: TextIO | None = None) -> None:
    """Send structlog's and the standard library's records to `stream` (standard error) in one form."""
    stream = stream or sys.stderr
    shared: list[structlog.types.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _exception,
    ]
    renderer: structlog.types.Processor
    if form == "json":
        renderer = structlog.processors.JSONRenderer(default=str)
    else:
        renderer = structlog.dev.ConsoleRenderer(colors=stream.isatty())
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[_foreign, *shared],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
            keep_exc_info=False,
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(LEVELS[level])
    for name in QUIET:
        logging.getLogger(name).setLevel(max(logging.WARNING, LEVELS[level]))
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )


def kafka_logger() -> logging.Logger:
    """The logger to hand to librdkafka's clients (`logger=`): its lines come out as events of `librdkafka`."""
    return logging.getLogger("librdkafka")


def _foreign(_: Any, __: str, event: Event) -> Event:
    """A record of another library: its text under `text`, so that the message stays constant."""
    record: logging.LogRecord = event["_record"]
    event.update(event="library", text=event["event"], logger=record.name)
    return event


def _exception(_: Any, __: str, event: Event) -> Event:
    """Replace `exc_info` by `errors`: the chain of errors, outermost first."""
    info = event.pop("exc_info", None)
    if info is True:
        info = sys.exc_info()
    error = info[1] if isinstance(info, tuple) else info
    if isinstance(error, BaseException):
        event["errors"] = _chain(error)
    return event


def _chain(error: BaseException) -> list[dict[str, Any]]:
    chain: list[dict[str, Any]] = []
    seen: BaseException | None = error
    while seen is not None and len(chain) < FRAMES:
        frames = traceback.extract_tb(seen.__traceback__)[-FRAMES:]
        entry: dict[str, Any] = {
            "type": f"{type(seen).__module__}.{type(seen).__qualname__}",
            "places": [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames],
        }
        if isinstance(seen, OrderSyncError | OSError):
            entry["text"] = str(seen)
        if isinstance(state := getattr(seen, "sqlstate", None), str):
            entry["sqlstate"] = state
        chain.append(entry)
        seen = seen.__cause__ or (None if seen.__suppress_context__ else seen.__context__)
    return chain
