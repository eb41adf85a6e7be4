"""What every test can ask for; see tests/fixtures."""

from __future__ import annotations

import decimal
import os

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
