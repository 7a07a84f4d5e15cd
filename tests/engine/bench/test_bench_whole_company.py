"""The benchmark's company: a rule set without a remark, models that serve, answers that take all the work."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from engine.bench import whole_company
from engine.bench.whole_customers import customer_id
from engine.bench.whole_documents import write_rules
from engine.bench.whole_features import features_of, schema_toml, values_of
from engine.bench.whole_shape import Company, Size, described
from engine.bootstrap import open_application
from engine.core.rulebook import InputType
from engine.domain import Decision
from engine.rulefiles import analyse_rules
from engine.service.requests import DecisionQuery

CANDIDATES, CUSTOMERS = 30, 40


@pytest.fixture(scope="module")
def decisions(whole_company: Company) -> list[Decision]:
    """What is decided for every customer, on the web."""
    page = {"page": (InputType.STRING, "/billing")}
    with open_application(whole_company.settings()) as application:
        return [
            application.decisions.decide(
                DecisionQuery(customer_id=customer_id(number), channel="web", limit=3, context=page)
            ).record.decision
            for number in range(CUSTOMERS)
        ]


def test_its_rule_set_has_neither_errors_nor_warnings(whole_company: Company) -> None:
    """Fifty rules, thirty actions and seven contact policies compile."""
    found, rulebook = analyse_rules(whole_company.settings())

    assert found == []
    assert rulebook is not None
    assert len(rulebook.actions) == 30
    assert len(whole_company.rules) == 50


@pytest.mark.parametrize("size", [Size(10, 50, 20), Size(100, 500, 80)])
def test_other_sizes_compile_as_well(whole_company: Company, tmp_path: Path, size: Size) -> None:
    """Fewer and more of everything than usual."""
    other = described(tmp_path, size)
    (tmp_path / "schema.toml").write_text(schema_toml(other.features), encoding="utf-8")
    write_rules(other)

    found, rulebook = analyse_rules(other.settings(registry=whole_company.settings().registry))

    assert [problem for problem in found if problem.severity == "error"] == []
    assert rulebook is not None
    assert len(rulebook.actions) == size.candidates


def test_a_decision_takes_all_the_work_there_is(decisions: list[Decision]) -> None:
    """Thirty candidates, models that score and explain, every way of being removed, nothing left out."""
    stages = {str(action.stage) for decision in decisions for action in decision.suppressed}
    sources = {reason.source for d in decisions for action in d.actions for reason in action.reasons}

    assert all(len(d.actions) + len(d.suppressed) == CANDIDATES for d in decisions)
    assert sum(len(d.actions) == 3 for d in decisions) > CUSTOMERS / 2
    assert {"eligibility", "applicability", "suitability", "contact", "arbitration"} <= stages
    assert {"rule", "model"} <= {str(source) for source in sources}
    assert all(d.profiled and not d.degraded_by for d in decisions)


def test_customers_are_the_same_every_time() -> None:
    """Values come from a seed; what no rule reads may be missing, and nothing else."""
    features = features_of(40)

    values, again = values_of(3, features, seed=7), values_of(3, features, seed=7)

    assert np.array_equal(values, again, equal_nan=True)
    missing = np.isnan(values).any(axis=0)
    assert missing.tolist() == [not known.read_by_rules for known in features]


def test_the_command_says_how_to_serve_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Files, a filled store and two commands."""
    small = ["--customers", "3", "--trees", "2", "--candidates", "5", "--rules", "10"]

    code = whole_company.main([str(tmp_path / "made"), *small])

    told = capsys.readouterr().out
    assert code == 0
    assert f"ARBITER_RULES={tmp_path / 'made' / 'rules'}" in told
    assert (tmp_path / "made" / "registry" / "propensity" / "1" / "model.onnx").exists()
    assert (tmp_path / "made" / "data" / "store").exists()
