"""Secrets that are planted in every setting that may hold one are shown by no command, error or log."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from arbiter_at_work import REPOSITORY
from typer.testing import Result

from engine.errors import SetupInvalid
from engine.settings import Settings, load_settings

SECRET = "planted-31415"
PLANTED = {
    "ARBITER_STORE_PASSWORD": SECRET,
    "ARBITER_CHECKPOINT_KEY": SECRET,
    "ARBITER_IDENTITY_KEY": SECRET,
    "ARBITER_WEBHOOK_SECRET": SECRET,
    "ARBITER_WEBHOOK_URL": f"https://crm.example.com/{SECRET}",
    "ARBITER_STORE": f"redis://user:{SECRET}@127.0.0.1:1/0",
    "ARBITER_REGISTRY": f"memory://key:{SECRET}@bucket/models",
}

Run = Callable[..., Result]


@pytest.fixture
def planted(run: Run, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs `arbiter` in this process with every secret planted."""
    for name, value in PLANTED.items():
        monkeypatch.setenv(name, value)
    return run


def test_every_secret_of_the_settings_is_planted() -> None:
    """A new one fails here until it is."""
    secrets = {n for n, field in Settings.model_fields.items() if "SecretStr" in str(field.annotation)}

    assert {f"ARBITER_{name.upper()}" for name in secrets} <= set(PLANTED)


@pytest.mark.parametrize("words", [("settings",), ("settings", "--json")])
def test_settings_show_no_secret(planted: Run, words: tuple[str, ...]) -> None:
    """They show that there is one."""
    shown = planted(*words)

    assert shown.exit_code == 0, shown.output
    assert SECRET not in shown.output
    assert "*****" in shown.output


@pytest.mark.parametrize(
    "words",
    [
        ("store", "check"),
        ("customer", "export", "C0001"),
        ("decide", "--local", "--customer", "C0133", "--channel", "web"),
    ],
)
def test_commands_that_cannot_work_tell_no_secret(
    planted: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    """Neither what they print nor what they raise."""
    (tmp_path / "decisions").mkdir()
    monkeypatch.setenv("ARBITER_DATA_DIR", str(tmp_path))

    failed = planted(*words)

    assert failed.exit_code not in (0, None)
    assert SECRET not in failed.output + repr(failed.exception)


def test_server_that_cannot_start_tells_no_secret(tmp_path: Path) -> None:
    """Neither on the terminal nor in its log at the most talkative."""
    clean = {name: v for name, v in os.environ.items() if not name.startswith("ARBITER_")}
    told = {"ARBITER_DATA_DIR": str(tmp_path), "ARBITER_LOG_LEVEL": "debug"}

    failed = subprocess.run(
        [sys.executable, "-m", "engine", "serve", "--port", "0"],
        env=clean | PLANTED | told,
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=120,
    )

    assert failed.returncode != 0
    assert failed.stderr
    assert SECRET not in failed.stdout + failed.stderr


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("identity_key", [SECRET]),
        ("store", [SECRET]),
        ("store_password", {"password": SECRET}),
    ],
)
def test_wrong_value_of_a_secret_is_not_repeated(name: str, value: object) -> None:
    """The setting is named; its value is for who set it."""
    with pytest.raises(SetupInvalid) as refused:
        load_settings({name: value})

    assert SECRET not in str(refused.value)
    assert refused.value.__cause__ is None
