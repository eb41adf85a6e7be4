"""The commands that move positions, as a role that may only touch rows, through pgbouncer: their own tests again."""

from __future__ import annotations

import pytest
from fixtures.postgres import Database
from test_cli_position import *  # noqa: F403 - every test and fixture of it, over the database below

pytestmark = pytest.mark.postgres


@pytest.fixture
def database(database_as_role: Database) -> Database:
    """What the tests above are given here."""
    return database_as_role
