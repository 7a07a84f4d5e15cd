from __future__ import annotations

import json
import os

import pytest
from contenders import Contenders, held_out_rows, labels_of, poor_booster
from typer.testing import CliRunner

from engine import logs
from engine.cli.app import app
from engine.promotion.comparing import Pair, compare_versions
from engine.promotion.limits import Limits
from model_registry import open_version

LINEAGE = {
    "config": "sha256:" + "1" * 64,
    "code": "arbiter 1",
    "seeds": {"boosting": 1},
    "environment": {"python": "3.11"},
    "data": {"source": "crm", "rows": 600, "fingerprint": "sha256:" + "2" * 64},
}


@pytest.fixture
def company(tmp_path, rows, churn_booster) -> Contenders:
    held_out = held_out_rows()
    return Contenders(
        tmp_path, churn_booster, poor_booster(rows), held_out, labels_of(churn_booster, held_out)
    )


def compared(company: Contenders, first: int, second: int):
    versions = (open_version(company.root, "churn", number) for number in (first, second))
    return compare_versions(*versions, limits=Limits())


def test_both_models_are_measured_on_the_second_ones_rows(company):
    """Second minus first: a better second one gains AUC and loses log loss, beyond chance."""
    company.publish(company.poor)
    company.publish(company.good)

    found = compared(company, 1, 2)

    assert found.measured.auc_gain.low > 0 > found.measured.log_loss_gain.high
    assert found.measured.auc[0].value - found.measured.auc[1].value == pytest.approx(
        found.measured.auc_gain.value
    )


def test_what_differs_is_told_and_what_does_not_is_not(company):
    """Lineage field by field, inputs by name, bytes of each file."""
    company.publish(company.good, lineage=LINEAGE, metrics={"auc_test": 0.8, "only_here": 1.0})
    other = {**LINEAGE, "seeds": {"boosting": 2}}
    company.publish(company.good, lineage=other, metrics={"auc_test": 0.9})

    found = compared(company, 1, 2)

    assert dict(found.differences) == {"lineage.seeds.boosting": Pair(1, 2)}
    assert found.metrics["auc_test"] == Pair(0.8, 0.9)
    assert found.metrics["only_here"] == Pair(1.0, None)
    assert found.sizes["model.onnx"].first == found.sizes["model.onnx"].second


def test_versions_that_cannot_be_measured_together_say_why(company):
    """Another kind, another set of inputs, no rows."""
    company.publish(company.good)
    company.publish(company.good, kind="value")
    inputs = [{"name": n, "source": "feature"} for n in "abcdef"]
    concept = {"name": "all", "inputs": [*"abcdef"], "reason_raises": "", "reason_lowers": ""}
    company.publish(company.good, inputs=inputs, concepts=[concept])

    found = compared(company, 1, 3)

    assert "a churn and a value model" in compared(company, 1, 2).measured
    assert "which the held-out rows lack" in found.measured
    assert found.inputs_added == (*"abcdef",)
    assert "contract" in found.inputs_removed


def test_the_command_shows_intervals(company, monkeypatch):
    """Figures of both with their intervals, and the difference with its sign."""
    for name in [name for name in os.environ if name.startswith("ARBITER_")]:
        monkeypatch.delenv(name)
    monkeypatch.setattr(logs, "configure", lambda _level: None)  # it would hold this test's streams
    company.publish(company.poor, lineage=LINEAGE)
    company.publish(company.good)
    words = ["models", "compare", "churn/1", "churn/2", "--registry", str(company.root)]

    told = CliRunner().invoke(app, words)
    document = CliRunner().invoke(app, [*words, "--json"])

    found = json.loads(document.stdout)
    assert (told.exit_code, document.exit_code) == (0, 0)
    assert "difference" in told.stdout
    assert found["measured"]["auc_gain"]["low"] > 0
    assert found["differences"]["lineage.code"] == {"first": "arbiter 1", "second": None}
