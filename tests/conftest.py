"""What every test can ask for; see tests/fixtures."""

from __future__ import annotations

import decimal
import os

import pytest
from hypothesis import settings

# A decimal that meets a float is an error, in this thread and in those that start later.
for context in (decimal.DefaultContext, decimal.getcontext()):
    context.traps[decimal.FloatOperation] = True

# In CI the same examples every time: a new counterexample is a developer's find, not a reason to refuse a change.
settings.register_profile("ci", derandomize=True)
if os.environ.get("CI"):
    settings.load_profile("ci")

pytest_plugins = [
    "fixtures.postgres",
    "fixtures.run_time_role",
    "fixtures.kafka",
    "fixtures.apache_kafka",
    "fixtures.kafka_line",
    "fixtures.clock",
    "fixtures.sandbox",
    "fixtures.delivery",
]

SERVICES = ("apache_kafka", "debezium")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Have one worker run all that starts Java or whole processes: each service once, and no two at the same time."""
    for item in items:
        if "process" in item.path.parts or any(item.get_closest_marker(name) for name in SERVICES):
            item.add_marker(pytest.mark.xdist_group("services"))


@pytest.hookimpl(trylast=True)
def pytest_collection_finish(session: pytest.Session) -> None:
    """Stop where that had no effect: all of the above would be started by every worker, at the same time."""
    if getattr(session.config.option, "loadgroup", False) and any(
        item.get_closest_marker("xdist_group") and "@" not in item.nodeid for item in session.items
    ):
        raise pytest.UsageError("pytest-xdist groups no tests under this version of pytest; see pyproject.toml")
