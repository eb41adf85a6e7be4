"""What every test can ask for; see tests/fixtures."""

from __future__ import annotations

import os

from hypothesis import settings

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
]
