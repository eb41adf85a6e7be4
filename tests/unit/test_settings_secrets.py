"""Secrets: from a variable or a file, read anew, never shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from daemon.errors import SettingsError
from daemon.settings import Destination, Secret, Settings

NAME = "ORDER_SYNC_TEST_SECRET"


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(NAME, raising=False)
    monkeypatch.delenv(f"{NAME}_FILE", raising=False)


def test_variable_gives_the_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    """The plain case."""
    monkeypatch.setenv(NAME, "hunter2")
    assert Secret(NAME).read() == "hunter2"


def test_file_is_read_anew_when_it_changes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A rotated secret is taken up without a restart; the line end that editors add is no part of it."""
    path = tmp_path / "key"
    monkeypatch.setenv(f"{NAME}_FILE", str(path))
    secret = Secret(NAME)
    path.write_text("old\n")
    assert secret.read() == "old"
    path.write_text("new\n")
    assert secret.read() == "new"


def test_nothing_set_names_both_ways() -> None:
    """The cure names the variable and its file form."""
    with pytest.raises(SettingsError, match=f"{NAME} is not set; set it, or {NAME}_FILE to a file"):
        Secret(NAME).read()


def test_both_forms_are_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Two sources for one secret would leave open which one counts."""
    monkeypatch.setenv(NAME, "a")
    monkeypatch.setenv(f"{NAME}_FILE", str(tmp_path / "key"))
    with pytest.raises(SettingsError, match="keep one of them"):
        Secret(NAME).read()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "cannot be read: No such file"),
        (b"", "is not set"),
        (b"\xff\xfe", "is not UTF-8"),
        (b"a\nb", "line break"),
    ],
)
def test_unusable_files_are_refused_without_their_content(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: bytes | None, said: str
) -> None:
    """Missing, empty, binary and many-line files each say what is wrong."""
    path = tmp_path / "key"
    if content is not None:
        path.write_bytes(content)
    monkeypatch.setenv(f"{NAME}_FILE", str(path))
    with pytest.raises(SettingsError, match=said):
        Secret(NAME).read()


def test_secret_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the secret's own repr nor that of the settings holds the value."""
    monkeypatch.setenv(NAME, "hunter2")
    settings = Settings(mapping=Path("m"), destinations={"main": Destination(client_id="c", api_key_env=NAME)})
    shown = repr(settings) + repr(list(settings.secrets())) + settings.model_dump_json()
    assert NAME in shown
    assert "hunter2" not in shown


def test_secrets_lists_each_with_the_key_that_names_it() -> None:
    """`check` goes through this list."""
    settings = Settings.model_validate(
        {
            "mapping": "m",
            "kafka": {"secret_properties": {"sasl.password": "A"}},
            "postgres": {"password_env": "B"},
            "destinations": {"main": {"client_id": "c", "api_key_env": "C"}},
        }
    )
    assert [(key, secret.name) for key, secret in settings.secrets()] == [
        ("kafka.secret_properties.sasl.password", "A"),
        ("postgres.password_env", "B"),
        ("destinations.main.api_key_env", "C"),
    ]
