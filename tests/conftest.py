"""What every test can ask for; see tests/fixtures."""

pytest_plugins = ["fixtures.postgres", "fixtures.kafka", "fixtures.clock", "fixtures.sandbox"]
