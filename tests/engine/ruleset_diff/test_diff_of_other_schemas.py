"""Comparing rules and asking about customers where features were written under an earlier schema."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from engine.bootstrap import open_application
from engine.cli.rules import app
from engine.service.requests import DecisionQuery
from engine.settings import Settings
from feature_store.embedded import open_embedded
from feature_store.schema import FeatureSchema, parse_schema
from feature_store.versions import SchemaVersions

REPOSITORY = Path(__file__).resolve().parents[3]
RULES = str(REPOSITORY / "rules")
Edited = Callable[[str, str, str], Path]
CUSTOMERS = 150
TEXT = Settings().feature_schema.read_text(encoding="utf-8")
TODAY = parse_schema(TEXT, source="today")
EARLIER = TEXT.replace(
    '\n[[feature]]\nname = "senior_citizen"\n',
    """
[[feature]]
name = "shoe_size"
view = "contract"
type = "int"
data_class = "contractual"
description = "Given up since"

[[feature]]
name = "senior_citizen"
""",
    1,
).replace(f"\nversion = {TODAY.version}\n", "\nversion = 1\n", 1)


def write_as(data_dir: Path, schema: FeatureSchema, *, kept: bool) -> None:
    """Rewrites the first customers' features in another schema."""
    store = open_embedded(data_dir / "store")
    try:
        names = [name for _, name in zip(range(CUSTOMERS), store.customers(), strict=False)]
        versions = SchemaVersions(lambda: {TODAY.digest: TEXT})
        states = [state for name in names if (state := store.read(name)) is not None]
        store.put_customers(
            (state.customer_id, versions.read(state.features, schema, now_ms=0))
            for state in states
            if state.features is not None
        )
        if kept:
            store.put_schema(schema.digest, EARLIER)
    finally:
        store.close()


@pytest.fixture
def earlier_company(diff_settings: Settings, tmp_path: Path) -> Settings:
    """A copy of the demo company, features written under an earlier schema that the store keeps."""
    shutil.copytree(diff_settings.data_dir, tmp_path / "data")
    write_as(tmp_path / "data", parse_schema(EARLIER, source="earlier"), kept=True)
    return Settings(data_dir=tmp_path / "data")


def diff(settings: Settings, *arguments: str) -> dict[str, Any]:
    count = ["--customers", str(CUSTOMERS), "--json", "--data-dir", str(settings.data_dir)]
    done = CliRunner().invoke(app, ["diff", RULES, *arguments, *count])
    assert done.exit_code == 0, done.output
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def test_customers_of_an_earlier_schema_change_as_those_of_todays(
    diff_settings: Settings, earlier_company: Settings, rules_edited: Edited
) -> None:
    """The figures are the same to the last one, and they are no zeros."""
    folder = str(rules_edited("business/retention.yaml", "scores.churn >= 0.3", "scores.churn >= 0.6"))

    today, earlier = (diff(settings, folder) for settings in (diff_settings, earlier_company))

    assert earlier["impact"]["changed"] > 0
    assert earlier["cases_are"] == today["cases_are"]
    for part in ("changed", "actions", "segments", "stages"):
        assert earlier["impact"][part] == today["impact"][part]


def test_features_that_nobody_can_read_are_told(
    diff_settings: Settings, tmp_path: Path, rules_edited: Edited
) -> None:
    """A comparison of customers without features says that it is one."""
    shutil.copytree(diff_settings.data_dir, tmp_path / "data")
    write_as(tmp_path / "data", parse_schema(EARLIER, source="earlier"), kept=False)
    folder = rules_edited("business/retention.yaml", "scores.churn >= 0.3", "scores.churn >= 0.6")

    found = diff(Settings(data_dir=tmp_path / "data"), str(folder))

    assert f"(for {CUSTOMERS} of them features of a schema that is not kept" in found["cases_are"]


def test_logged_decisions_of_an_earlier_schema_are_read_in_todays(
    earlier_company: Settings, tmp_path: Path, rules_edited: Edited
) -> None:
    """Each is decided as it was: the same rules change nothing, and no feature is missing."""
    file = tmp_path / "earlier.toml"
    file.write_text(EARLIER, encoding="utf-8")
    before = earlier_company.model_copy(update={"feature_schema": file})
    with open_application(before) as application:
        for customer in ("C0131", "C0133", "C0060"):
            application.decisions.decide(DecisionQuery(customer_id=customer, channel="web"))
        logged = {record.state.features.schema_version for record in application.log.scan()}  # type: ignore[union-attr]  # all have features
    folder = str(rules_edited("business/retention.yaml", "scores.churn >= 0.3", "scores.churn >= 0.6"))

    same, other = (diff(earlier_company, rules, "--log", "3") for rules in (RULES, folder))

    assert logged == {parse_schema(EARLIER, source="earlier").digest}
    assert same["impact"]["changed"] == 0
    assert other["cases_are"] == "of the last 3 logged decisions"
    bands = other["impact"]["segments"]["contract"]
    assert "(missing)" not in bands


@pytest.mark.parametrize("kept", [True, False])
def test_expressions_read_an_earlier_schema(diff_settings: Settings, tmp_path: Path, kept: bool) -> None:
    """With the schema kept the value is there; without it the command says why it is not."""
    shutil.copytree(diff_settings.data_dir, tmp_path / "data")
    write_as(tmp_path / "data", parse_schema(EARLIER, source="earlier"), kept=kept)
    asked = ["repl", "--customer", "C0001", "--eval", "features.tenure_months > 0"]

    done = CliRunner().invoke(app, [*asked, "--data-dir", str(tmp_path / "data"), "--rules", RULES])

    assert done.exit_code == 0, done.output
    assert ("features.tenure_months  =>  unknown (absent)" in done.stdout) is not kept
    assert ("of a schema that is not kept" in " ".join(done.stderr.split())) is not kept
