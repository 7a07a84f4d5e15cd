"""docs/decision-log.md: its policy can be read, its columns are all there, its questions have answers."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from arbiter_at_work import AT_RISK, LOYAL, query, settings_for

from engine.bootstrap import open_application
from engine.decisionlog import columns
from engine.decisionlog.analysis import ask
from engine.decisionlog.exporting import export
from engine.decisionlog.masking import Mask, read_policy, unknown_names
from feature_store.schema import load_schema

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "decision-log.md").read_text(encoding="utf-8")
POLICY = re.findall(r"^```toml\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)[0]
QUESTIONS = re.findall(r"^```sql\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def exported(demo_company: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An export of a few decisions, under the policy of the page."""
    folder = tmp_path_factory.mktemp("page")
    (folder / "masking.toml").write_text(POLICY, encoding="utf-8")
    settings = settings_for(demo_company)
    with open_application(
        settings.model_copy(update={"data_dir": _copy(demo_company, folder)})
    ) as application:
        for customer in (AT_RISK, LOYAL):
            application.decisions.decide(query(customer))
        schema = [feature.name for feature in application.live.current.schema.feature]
    mask = Mask(read_policy(folder / "masking.toml"), key=b"key", feature_names=lambda _versions: schema)
    data = folder / "data"
    export(folder / "out", decisions=data / "decisions", outcomes=data / "outcomes", mask=mask)
    return folder / "out"


def _copy(company: Path, folder: Path) -> Path:
    return Path(shutil.copytree(company, folder / "data"))


def test_the_policy_of_the_page_names_what_there_is(tmp_path: Path) -> None:
    """It is read, and its features are the demo company's."""
    path = tmp_path / "masking.toml"
    path.write_text(POLICY, encoding="utf-8")
    schema = load_schema(settings_for(tmp_path).feature_schema)

    policy = read_policy(path)

    assert unknown_names(policy, features=frozenset(f.name for f in schema.feature)) == []
    assert policy.context


@pytest.mark.parametrize("schema", [columns.DECISIONS, columns.OUTCOMES])
def test_every_column_is_told_of(schema: object) -> None:
    """And every field of a candidate, a consent and a reason."""
    names = set(schema.names)  # type: ignore[attr-defined]  # pyarrow has no types
    for nested in ("candidates", "consents", "churn_reasons"):
        if nested in names:
            struct = schema.field(nested).type.value_type  # type: ignore[attr-defined]
            names |= {struct.field(place).name for place in range(struct.num_fields)}

    assert {name for name in names if f"`{name}`" not in PAGE} == set()


@pytest.mark.parametrize("question", QUESTIONS)
def test_the_questions_of_the_page_have_answers(exported: Path, question: str) -> None:
    """Each gives rows over decisions of the demo company."""
    answer = ask(exported, question, memory_mb=200)

    assert answer.rows


def test_the_policy_of_the_page_is_in_force(exported: Path) -> None:
    """Features that it keeps are there, customers have pseudonyms."""
    answer = ask(exported, "select distinct customer[1:2], map_keys(features) from decisions", memory_mb=200)

    assert answer.rows == (("p-", ["tenure_months", "contract"]),)
