"""Two feature schemas under one version: the second is refused, and whoever served goes on."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import structlog
from arbiter_at_work import settings_for
from typer.testing import CliRunner

from engine import logs
from engine.bootstrap import Application, open_application, wall_clock_ms, watch_rules
from engine.cli.app import app
from engine.errors import SetupInvalid, StateUnavailable
from engine.events.raw import RawEvent
from engine.publishing import activate, publish
from engine.schemas_kept import kept_event_rules
from engine.service.requests import DecisionQuery
from engine.settings import Settings
from engine.snapshots import load_snapshot
from feature_store.embedded import open_embedded
from feature_store.schema import parse_schema

TEXT = Settings().feature_schema.read_text(encoding="utf-8")
OTHER = TEXT.replace('unit = "months"', 'unit = "weeks"', 1)
OTHERS_WORDS = "feature tenure_months: unit weeks, in the store months"


@pytest.fixture
def schema_file(data_dir: Path, tmp_path: Path) -> Path:
    """A schema file of the test's own, the demo's at first."""
    file = tmp_path / "schema" / "telco.toml"
    file.parent.mkdir()
    file.write_text(TEXT, encoding="utf-8")
    return file


@pytest.fixture
def own_settings(data_dir: Path, schema_file: Path) -> Settings:
    """Settings of a copy of the demo company with that file."""
    return settings_for(data_dir).model_copy(update={"feature_schema": schema_file})


def failed_payment(name: str) -> RawEvent:
    now_ms = wall_clock_ms()
    return RawEvent(f"taken-{name}", "payment_failed", name, None, now_ms, {"amount": 5.0}, now_ms)


def schemas_of(application: Application) -> set[str]:
    return set(application.store.schemas())


def test_a_server_with_another_schema_of_a_kept_version_does_not_start(
    own_settings: Settings, schema_file: Path
) -> None:
    """It says which fields differ and what to do, and keeps nothing; with the version raised it starts."""
    schema_file.write_text(OTHER, encoding="utf-8")
    with pytest.raises(SetupInvalid) as refused, open_application(own_settings):
        pass
    version = parse_schema(TEXT, source="demo").version
    schema_file.write_text(OTHER.replace(f"\nversion = {version}\n", f"\nversion = {version + 1}\n", 1))

    with open_application(own_settings) as application:
        kept = schemas_of(application)

    assert OTHERS_WORDS in str(refused.value)
    assert str(schema_file) in str(refused.value)
    assert f"raise `version` to {version + 1}" in str(refused.value)
    assert kept == {parse_schema(text, source="test").digest for text in (TEXT, OTHER)}


def test_a_running_server_keeps_its_schema_and_goes_on(own_settings: Settings, schema_file: Path) -> None:
    """A reload with another schema of its version is refused like a bad rule file; the rest goes on."""
    with open_application(own_settings) as application:
        before = schemas_of(application)
        schema_file.write_text(OTHER, encoding="utf-8")

        swapped = application.live.reload()

        (fate,) = application.events.ingest([failed_payment("C0131")])
        answer = application.decisions.decide(DecisionQuery(customer_id="C0131", channel="web"))
        assert not swapped
        assert OTHERS_WORDS in application.live.last_error
        assert fate.verdict == "applied"
        assert "features:schema" not in answer.record.decision.degraded_by
        assert schemas_of(application) == before


def test_no_version_of_the_rules_is_activated_with_another_schema(
    own_settings: Settings, schema_file: Path, tmp_path: Path
) -> None:
    """A server that follows says that it cannot serve, so nothing changes."""
    edited = tmp_path / "rules"
    shutil.copytree(own_settings.rules, edited)
    care = edited / "business" / "care.yaml"
    care.write_text(care.read_text().replace("share: 0.5", "share: 0.25"))
    with open_application(own_settings) as application, watch_rules(application):
        version, _ = publish(own_settings.model_copy(update={"rules": edited}), author="a", message="m")
        schema_file.write_text(OTHER, encoding="utf-8")

        with pytest.raises(SetupInvalid, match="so nothing changed") as refused:
            activate(own_settings, version.rules, author="a", reason="r")

        assert OTHERS_WORDS in str(refused.value)


def test_events_are_not_written_in_a_schema_that_is_not_kept(tmp_path: Path, data_dir: Path) -> None:
    """Where the store was away at the start and keeps a rival, events stay with whoever sends them."""
    settings = settings_for(data_dir)
    snapshot = load_snapshot(settings)
    store = open_embedded(tmp_path / "store")
    store.put_schema(parse_schema(OTHER, source="rival").digest, OTHER)

    with pytest.raises(StateUnavailable, match="feature schema"):
        kept_event_rules(settings, store, snapshot)

    assert len(store.schemas()) == 1
    store.close()
    with pytest.raises(StateUnavailable, match="send them again"):
        kept_event_rules(settings, store, snapshot)


def test_two_that_are_both_kept_are_warned_of(own_settings: Settings) -> None:
    """A service from before this was looked at starts; its log says what differs."""
    with open_application(own_settings) as application:
        application.store.put_schema(parse_schema(OTHER, source="rival").digest, OTHER)

    with structlog.testing.capture_logs() as said, open_application(own_settings):
        pass

    (warning,) = [line for line in said if line["event"] == "schema.version_shared"]
    assert "feature tenure_months: unit months, in the store weeks" in warning["differences"]


def test_loads_are_refused_before_anything_is_written(
    data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`arbiter store load` ends with 3 and the same words; `store check` warns where both are in use."""
    monkeypatch.setattr(logs, "configure", lambda _level: None)
    file = tmp_path / "other.toml"
    file.write_text(OTHER, encoding="utf-8")
    table = tmp_path / "new.csv"
    table.write_text("customer_id,tenure_months\nN1,5\n", encoding="utf-8")
    store = ["--data-dir", str(data_dir)]

    loaded = CliRunner().invoke(app, ["store", "load", str(table), "--schema", str(file), *store])

    assert loaded.exit_code == 3, loaded.output
    assert OTHERS_WORDS in " ".join(loaded.stderr.split())
    opened = open_embedded(data_dir / "store")
    assert opened.read("N1") is None
    assert len(opened.schemas()) == 1
    opened.close()


def test_a_check_names_two_schemas_in_use(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It ends with 4, as each writer takes the other's customers over."""
    monkeypatch.setattr(logs, "configure", lambda _level: None)
    opened = open_embedded(data_dir / "store")
    state = opened.read("C0131")
    assert state is not None
    assert state.features is not None
    rival = parse_schema(OTHER, source="rival")
    opened.put_schema(rival.digest, OTHER)
    features = state.features
    opened.put_customers([("C0131", type(features)(rival.digest, features.view_times_ms, features.values))])
    opened.close()

    checked = CliRunner().invoke(app, ["store", "check", "--all", "--data-dir", str(data_dir)])

    assert checked.exit_code == 4
    assert "feature tenure_months: unit" in " ".join(checked.stderr.split())
