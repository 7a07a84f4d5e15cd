"""From a company's own CSV to a decision: trained, registered, loaded, promoted, scored, explained."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gym_company as gym
import numpy as np
import pytest
import structlog
from typer.testing import CliRunner

from engine import logs
from engine.bootstrap import open_application
from engine.cli.app import app
from engine.core.reasons import PLACEHOLDERS
from engine.domain import Decision
from engine.service.requests import DecisionQuery
from engine.settings import Settings
from feature_store.schema import load_schema
from training.own.plan import TrainingPlan
from training.own.run import prepare, train
from training.own.tasks import matrix_of

MEMBER = "M0007"
MEMBERS, OFFERED = 4000, 6000
"""So many that a good model passes the gates of promotion, which chance would fail on few rows."""

REGISTERED = {"register": {"registry": "registry"}, "gates": {"behind_baseline_at_most": 0.1}}
_HEAD = "apiVersion: arbiter/v1\nkind: {}\nmetadata: {{name: gym, owner: gym, description: The gym}}\n"
_WORDS = "  - {{code: {}, agent: {{en: A}}, customer: {{en: A}}}}\n"
RULES = {
    "vocabulary.yaml": _HEAD.format("Vocabulary")
    + "channels: [{id: desk}]\nlanguages: [en]\nchurn_bands: {low: 0.0, high: 0.4}\n",
    "catalogue.yaml": _HEAD.format("Catalogue")
    + "currency: CHF\ngroups: [care]\nactions:\n"
    + "".join(
        f"  - {{id: {name}, group: care, purpose: service, name: {{en: A}}, value: 50.0, cost: 1.0,"
        f" prior: 0.5, target: {name},"
        f" treatments: [{{id: {name}.desk, channel: desk, headline: {{en: A}}, body: {{en: A}}}}]}}\n"
        for name in gym.OFFERS
    ),
    "reasons.yaml": _HEAD.format("ReasonCatalogue")
    + "reasons:\n"
    + "".join(_WORDS.format(code) for code in (*PLACEHOLDERS, "AT_RISK")),
    "consent.yaml": _HEAD.format("ConsentPolicy")
    + "profiling_purpose: profiling\npurposes: [{id: service, basis: contract},"
    " {id: profiling, basis: legitimate_interest}]\n",
    "arbitration.yaml": _HEAD.format("Arbitration") + "threshold: 0.0\nmax_per_group: 10\n",
    "care.yaml": _HEAD.format("PolicyPack")
    + "rules:\n  - {id: care.at-risk, applies_to: {groups: [care]}, when: scores.churn >= 0.2,"
    " effect: lever, share: 0.2, reason: AT_RISK, state: active}\n",
}


@pytest.fixture(autouse=True)
def quiet_logs(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Commands must not set up the logging of this process."""
    before = structlog.get_config()
    monkeypatch.setattr(logs, "configure", lambda _level: None)
    structlog.configure(logger_factory=structlog.ReturnLoggerFactory(), cache_logger_on_first_use=False)
    yield
    structlog.configure(**before)


COLUMNS = {"plan": "Plan", "visits": "Visits", "monthly_fee": "MonthlyFee", "months_member": "MonthsMember"}


@pytest.fixture(scope="module")
def churn_served(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The gym with a churn model of its own, promoted, and its members in the store; tests copy it."""
    folder = tmp_path_factory.mktemp("gym")
    gym.write_csv(folder / "members.csv", gym.members(MEMBERS))
    gym.write_offers(folder, OFFERED)
    gym.write_plan(folder, gym.churn_plan(**REGISTERED), "churn.yaml")
    gym.write_plan(folder, offers_plan(), "offers.yaml")
    (folder / "rules").mkdir()
    for name, text in RULES.items():
        (folder / "rules" / name).write_text(text)
    with pytest.MonkeyPatch.context() as here:
        serve_from(folder, here)
        train_and_promote("churn.yaml", "churn")
        maps = [f"{feature}={column}" for feature, column in (COLUMNS | {"vegan": "Vegan"}).items()]
        arbiter(
            "store", "load", "members.csv", "--id", "MemberId", *spread("--map", maps), "--ignore", "Left"
        )
    return folder


@pytest.fixture
def own_gym(churn_served: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it, where commands are run."""
    folder = tmp_path / "gym"
    shutil.copytree(churn_served, folder)
    serve_from(folder, monkeypatch)
    return folder


def test_an_own_table_becomes_a_score_with_reasons(own_gym: Path) -> None:
    """Churn alone: the score is LightGBM's prediction within 1e-6, actions are ranked by their priors."""
    decided = decision()

    assert decided.churn is not None
    assert decided.churn.probability == pytest.approx(expected_churn(own_gym), abs=1e-6)
    assert decided.churn.reasons
    assert decided.versions.models == {"churn": 1}
    assert decided.actions


def test_offers_are_scored_with_their_properties_and_told_in_words(own_gym: Path) -> None:
    """Of a second model on the same schema: each offer's score is LightGBM's, and all reasons have words."""
    train_and_promote("offers.yaml", "propensity")

    decided = decision()
    reply = json.loads(
        arbiter("decide", "--customer", MEMBER, "--channel", "desk", "--local", "--rules", "rules", "--json")
    )

    scores = {action.action_id: action.priority.propensity for action in decided.actions}
    assert scores == pytest.approx(expected_offers(own_gym), abs=1e-6)
    assert len({round(score, 6) for score in scores.values()}) == len(gym.OFFERS)
    assert all("risk of leaving" in reason["agentText"] for reason in reply["churnRisk"]["reasons"])
    told = [reason for action in reply["actions"] for reason in action["reasons"] if "model" in reason]
    assert {"propensity/1"} == {reason["model"] for reason in told}
    assert all("the interest" in reason["agentText"] for reason in told)


def decision() -> Decision:
    """What the gym's server decides for the member."""
    with open_application(Settings(rules=Path("rules"))) as application:
        return application.decisions.decide(DecisionQuery(customer_id=MEMBER, channel="desk")).record.decision


def serve_from(folder: Path, here: pytest.MonkeyPatch) -> None:
    """Commands and servers work on the gym's own files."""
    here.chdir(folder)
    here.setenv("ARBITER_REGISTRY", "registry")
    here.setenv("ARBITER_FEATURE_SCHEMA", "registry/churn/1/schema.toml")
    here.setenv("ARBITER_DATA_DIR", "data")
    here.setattr(logs, "configure", lambda _level: None)  # it would write to a test's closed stream


def train_and_promote(plan: str, model: str) -> None:
    """Version 1 serves, and its drafts of reasons stand in the rules."""
    arbiter("train", plan)
    arbiter("models", "promote", model, 1, "--reason", "trained and looked at")
    words = Path("registry", model, "1", "reasons.yaml").read_text(encoding="utf-8")
    Path("rules", f"{model}-reasons.yaml").write_text(words, encoding="utf-8")


def offers_plan() -> dict[str, Any]:
    """The plan of the offers, on the schema that the first plan inferred."""
    schema = {"schema": "registry/churn/1/schema.toml", "columns": COLUMNS, "data_class": None}
    return gym.offer_plan(features=schema, **REGISTERED)


def arbiter(*arguments: object) -> str:
    """Runs a command that must end well; its stdout."""
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    assert result.exit_code == 0, result.output
    return result.stdout


def spread(option: str, values: list[str]) -> list[str]:
    """An option given several times."""
    return [word for value in values for word in (option, value)]


def expected_churn(folder: Path) -> float:
    """What LightGBM, trained again, says of the member."""
    model = train(prepare(TrainingPlan.model_validate(gym.churn_plan(**REGISTERED)), folder=folder))
    return float(model.candidate.score(packed(folder)[None, :])[0])


def expected_offers(folder: Path) -> dict[str, float]:
    """What LightGBM, trained again, says of each offer to the member."""
    model = train(prepare(TrainingPlan.model_validate(offers_plan()), folder=folder))
    of_target = matrix_of(model.prepared.examples, model.prepared.labelled).of_target
    known = packed(folder)[: len(COLUMNS)]  # vegan is no column of the offers
    rows = np.array([np.concatenate([known, further]) for further in of_target], dtype=np.float32)
    return dict(zip(model.task.targets, model.candidate.score(rows).tolist(), strict=True))


def packed(folder: Path) -> np.ndarray:
    """The member's stored vector, packed by the schema from the cells of the CSV."""
    schema = load_schema(folder / "registry/churn/1/schema.toml")
    (row,) = (row for row in gym.members(MEMBERS) if row["MemberId"] == MEMBER)
    return schema.pack(
        {
            "plan": row["Plan"],
            "visits": row["Visits"] if row["Visits"] != "" else None,
            "monthly_fee": row["MonthlyFee"],
            "months_member": row["MonthsMember"],
            "vegan": row["Vegan"] == "true",
        }
    )
