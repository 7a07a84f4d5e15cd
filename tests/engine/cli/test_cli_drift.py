"""`arbiter drift`: the report on a terminal, as JSON and as a page, and the baseline."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from arbiter_at_work import AT_RISK, LOYAL, query, settings_for
from typer.testing import Result

from engine.bootstrap import open_application
from engine.monitor.drift.counts import WindowCounts
from engine.monitor.drift.windows import WindowFolder, read_baseline
from engine.service.outcomes import OutcomeReport
from feature_store.state import OutcomeType

Run = Callable[..., Result]
HOUR_MS = 3_600_000


@pytest.fixture(scope="module")
def counted(own_company: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory with decisions that were counted, and what became of their actions."""
    data_dir = tmp_path_factory.mktemp("counted") / "data"
    shutil.copytree(own_company, data_dir)
    with open_application(settings_for(data_dir)) as application, application.drift:
        records = [application.decisions.decide(query(name)).record for name in (AT_RISK, LOYAL) * 30]
        for number, record in enumerate(records):
            answer = OutcomeType.DECLINED if number % 4 < 2 else OutcomeType.ACCEPTED
            for action in record.decision.actions:
                name = f"{record.decision_id}-{action.action_id}"
                told = OutcomeReport(name, record.decision_id, action.action_id, answer, None)
                application.outcomes.record(told)
    return data_dir


@pytest.fixture
def data_dir(counted: Path, tmp_path: Path) -> Path:
    """A copy of it without the logs."""
    copy = tmp_path / "data"
    shutil.copytree(counted / "drift", copy / "drift")
    return copy


@pytest.fixture
def drifting(data_dir: Path) -> Path:
    """With many more customers in the hours before, all of whom are billed on paper."""
    folder = WindowFolder(data_dir / "drift")
    found = folder.windows()[-1]
    churn = found.models["churn/1"]
    rng = np.random.default_rng(1)
    for hours in (2, 1):
        many = WindowCounts(found.from_ms - hours * HOUR_MS, found.from_ms - (hours - 1) * HOUR_MS)
        inputs = {name: type(t)(t.bins * 0 + 500, 0, 0) for name, t in churn.inputs.items()}
        inputs["paperless_billing"].bins[:] = (1_000, 0)
        scores = type(churn.scores["churn"])(
            rng.multinomial(1_000, np.full(100, 0.01)).astype(np.int64), 500.0
        )
        customers = rng.multinomial(1_000, np.full(1024, 1 / 1024)).astype(np.int64)
        many.models["churn/1"] = type(churn)(1_000, customers, inputs, {"churn": scores})
        many.uncounted = 7
        folder.keep(many, writer="1-a")
    return data_dir


def test_the_report_names_what_drifts_first(run: Run, drifting: Path) -> None:
    """With the measure beside its threshold, what the scores promise, and what was not counted."""
    result = run("drift", "report", "--data-dir", drifting)

    assert (result.exit_code, result.stderr) == (0, "")
    first, _, rest = result.stdout.partition("\n")
    assert "alarms since" in first
    assert "14 decisions were not counted" in rest
    assert "paperless_billing" in rest
    assert "What the scores promise" in rest
    assert "inputs with training" in rest


def test_json_holds_every_window_and_variable(run: Run, drifting: Path) -> None:
    """And nothing else is on stdout."""
    result = run("drift", "report", "--data-dir", drifting, "--json", "--model", "churn", "--window", "hour")

    told = json.loads(result.stdout)
    assert result.exit_code == 0
    assert {section["subject"] for section in told["sections"]} == {"churn/1"}
    assert {section["window"] for section in told["sections"]} == {"hour"}
    (section,) = [s for s in told["sections"] if s["decisions"] == 1_000][:1]
    (variable,) = [v for v in section["variables"] if v["name"] == "paperless_billing"]
    assert variable["alarm"]
    assert variable["measures"]["psi"]["over"]
    assert variable["measures"]["psi"]["value"] > variable["measures"]["psi"]["threshold"]
    assert any(alarm["variable"] == "paperless_billing" for alarm in told["alarms"])
    assert told["performance"] == []


def test_the_page_stands_alone(run: Run, drifting: Path, tmp_path: Path) -> None:
    """Plots are in it, and nothing is fetched from elsewhere."""
    page = tmp_path / "drift.html"

    narrow = ("--model", "churn", "--window", "hour")
    result = run("drift", "report", "--data-dir", drifting, "--html", page, *narrow)

    text = page.read_text(encoding="utf-8")
    assert (result.exit_code, result.stdout) == (0, "")
    assert text.count("<svg") > 3
    assert "paperless_billing: alarm" in text
    assert "<script" not in text
    assert 'src="http' not in text
    refused = run("drift", "report", "--data-dir", drifting, "--html", tmp_path / "no" / "drift.html")
    assert refused.exit_code == 3


def test_a_baseline_takes_the_place_of_training_until_it_is_removed(run: Run, drifting: Path) -> None:
    """What is declared normal is no alarm any more."""
    (since, *_) = [w.from_ms for w in WindowFolder(drifting / "drift").windows()]
    moment = np.datetime_as_string(np.datetime64(since, "ms"), unit="s") + "Z"
    activated = run("drift", "baseline", "--since", moment, "--actor", "ds:4", "--data-dir", drifting)
    told = json.loads(run("drift", "report", "--data-dir", drifting, "--json").stdout)
    page = run("drift", "report", "--data-dir", drifting)
    removed = [run("drift", "baseline", "--remove", "--data-dir", drifting).stdout for _ in range(2)]

    assert activated.exit_code == 0
    assert "windows are normal now" in activated.stdout
    assert "by ds:4" in told["baseline"]
    assert "baseline:" in page.stdout
    assert not [a for a in told["alarms"] if a["variable"] == "paperless_billing" and a["window"] == "hour"]
    assert [text.strip() for text in removed] == ["removed", "there was none"]
    assert read_baseline(drifting / "drift") is None


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (("report", "--model", "value"), 3, "churn/1, propensity/1 by day, hour"),
        (("report", "--since", "soon"), 2, "no date"),
        (("report", "--churned", "nowhere.csv"), 3, "cannot be read"),
        (("baseline",), 2, "--since and --actor"),
        (
            ("baseline", "--since", "2001-01-01", "--until", "2001-01-02", "--actor", "x"),
            3,
            "nothing was counted",
        ),
    ],
)
def test_what_cannot_be_told_is_said(
    run: Run, drifting: Path, arguments: tuple[str, ...], code: int, told: str
) -> None:
    """With what there is instead."""
    result = run("drift", *arguments, "--data-dir", drifting)

    assert result.exit_code == code
    assert told in " ".join(result.stderr.split())


def test_without_counts_there_is_no_report(run: Run, tmp_path: Path) -> None:
    """Before the first decision, and where nothing of Arbiter is."""
    (tmp_path / "empty" / "drift").mkdir(parents=True)

    nowhere = run("drift", "report", "--data-dir", tmp_path)
    empty = run("drift", "report", "--data-dir", tmp_path / "empty")

    assert (nowhere.exit_code, empty.exit_code) == (3, 3)
    assert "no counts yet" in empty.stderr


def test_outcomes_are_told_with_intervals(run: Run, counted: Path, tmp_path: Path) -> None:
    """Accepted and declined actions, joined to the probabilities of their decisions."""
    page = tmp_path / "outcomes.html"
    told = run("drift", "report", "--data-dir", counted, "--model", "propensity", "--html", page, "--json")
    shown = run("drift", "report", "--data-dir", counted)

    (found,) = json.loads(told.stdout)["performance"]
    assert found["model"] == "propensity/1"
    assert found["outcomes"] >= 60
    assert found["auc"]["low"] <= found["auc"]["value"] <= found["auc"]["high"]
    assert "What outcomes say" in shown.stdout
    assert "What outcomes say" in page.read_text(encoding="utf-8")


def test_customers_who_left_give_the_churn_models_performance(
    run: Run, counted: Path, tmp_path: Path
) -> None:
    """From a file of who left when; a file without the columns is refused."""
    leavers, wrong = tmp_path / "left.csv", tmp_path / "wrong.csv"
    leavers.write_text(f"customer_id,churned_at\n{AT_RISK},2999-01-01\n", encoding="utf-8")
    wrong.write_text("customer,when\nC1,2999-01-01\n", encoding="utf-8")

    far = ("--within-days", "900000")
    result = run("drift", "report", "--data-dir", counted, "--churned", leavers, *far, "--json")
    refused = run("drift", "report", "--data-dir", counted, "--churned", wrong)

    models = {each["model"] for each in json.loads(result.stdout)["performance"]}
    assert "churn/1" not in models  # nobody has stayed for as long yet
    assert refused.exit_code == 3
    assert "customer_id" in refused.stderr
