"""The commands that look and mend, as a role that may only read and write rows, also through pgbouncer.

Their own tests are run again here with another `database`.
"""

from __future__ import annotations

import pytest
from fixtures.postgres import Database
from test_cli_mend import *  # noqa: F403 - every test and fixture of it, over the database below
from test_cli_position import *  # noqa: F403
from test_cli_rebuild import *  # noqa: F403

pytestmark = pytest.mark.postgres


@pytest.fixture
def database(database_as_role: Database) -> Database:
    """What the tests above are given here."""
    return database_as_role
