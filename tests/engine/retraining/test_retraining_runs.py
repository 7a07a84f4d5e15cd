"""A run from logs to a challenger: what it learns from, where it stops, and that it goes on."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import retrained_company as retrained
from retrained_company import DAY_MS, MODEL, Place, files_of, run

from engine.decisionlog.erasure import erase
from engine.decisionlog.record import DecisionRecord, decode_head
from engine.logfiles import DECISIONS, ERASED, log_directory
from engine.retraining.errors import ChallengerBusy, LearntFromRefused, ModelRefused, RunUnderway
from engine.retraining.journal import only_run
from engine.service.erased import ErasedCustomers
from model_registry import open_version, promote
from model_registry.aliases import read_aliases
from model_registry.rollout import Step, start

STEPS = ("table", "train", "gates", "register", "challenger", "end")


class Killed(BaseException):
    """The process dies: nothing after it is done."""


def killed_after(step: str) -> Callable[[str], None]:
    """Dies when a step is noted."""

    def told(done: str) -> None:
        if done == step:
            raise Killed

    return told


@pytest.fixture(scope="module")
def finished(history: Place, tmp_path_factory: pytest.TempPathFactory) -> Place:
    """A place with a run that nobody killed; tests change nothing that others look at."""
    folder = tmp_path_factory.mktemp("finished")
    shutil.copytree(history.settings.data_dir.parent, folder, dirs_exist_ok=True)
    run(history.at(folder))
    return history.at(folder)


def test_a_run_makes_a_challenger_and_no_champion(finished: Place) -> None:
    """Its lineage names run, part of the logs, rows and champion, and a person decides."""
    result = run(finished)

    manifest = open_version(finished.registry, MODEL, 2).manifest
    assert manifest.lineage is not None
    assert read_aliases(finished.registry, MODEL).aliases == {"champion": 1, "challenger": 2}
    assert (manifest.lineage.run, manifest.lineage.champion) == (result.run, 1)
    assert manifest.lineage.data.rows == result.table["rows"]
    assert manifest.lineage.data.source == (
        "decisions from 2024-09-04T00:00:00.000Z to 2024-10-27T00:00:00.000Z, outcomes to "
        "2024-11-03T00:00:00.000Z"
    )
    assert not result.promoted


def test_reasons_of_a_challenger_are_those_that_have_words(finished: Place) -> None:
    """Concepts are the champion's, whose codes the rules know."""
    before, after = (open_version(finished.registry, MODEL, version).manifest for version in (1, 2))
    codes = {c.reason_raises for c in before.concepts}
    known = {name for c in before.concepts for name in c.inputs}

    told = [c for c in after.concepts if known & set(c.inputs)]

    assert told
    assert {c.reason_raises for c in told} <= codes


def test_nothing_of_customers_stays_behind(finished: Place) -> None:
    """The table is gone when the run ends; what stays is its journal."""
    result = run(finished)

    left = [path.name for path in (finished.runs / result.run).iterdir()]

    assert left == ["journal.json"]


def test_a_finished_run_is_not_repeated(finished: Place) -> None:
    """The same plan on the same part of the logs: told again, nothing done."""
    again = run(finished, lambda step: pytest.fail(f"{step} was done again"))

    assert again.again
    assert again.version == 2
    assert not (finished.registry / MODEL / "3").exists()


def test_rows_that_were_learnt_from_are_nothing_new(finished: Place) -> None:
    """A later part of the logs with the same decisions and answers makes no version."""
    later = run(finished, until_ms=retrained.UNTIL_MS + DAY_MS)

    assert later.same_rows_as == run(finished).run
    assert later.version is None
    assert not (finished.registry / MODEL / "3").exists()


def folder_of(place: Place, version: int) -> Path:
    """The folder of a version of the model."""
    return place.registry / MODEL / str(version)


@pytest.mark.parametrize(
    "step", [step if step == "train" else pytest.param(step, marks=pytest.mark.slow) for step in STEPS]
)
def test_a_killed_run_goes_on_where_it_stopped(finished: Place, place: Place, step: str) -> None:
    """Whatever step was done last, the version is the same to the byte, and stands once."""
    steps: list[str] = []
    with pytest.raises(Killed):
        run(place, killed_after(step))

    run(place, steps.append)

    assert steps == list(STEPS[STEPS.index(step) + 1 :])
    assert files_of(folder_of(place, 2)) == files_of(folder_of(finished, 2))
    assert not (place.registry / MODEL / "3").exists()


@pytest.mark.slow
def test_a_version_that_was_published_and_not_noted_is_found(place: Place) -> None:
    """Killed between the registry and the journal: the version is known by its run."""
    with pytest.raises(Killed):
        run(place, killed_after("register"))
    (journal,) = place.runs.glob("*/journal.json")
    text = journal.read_text()
    journal.write_text(text.replace('"register":', '"unknown":'))

    result = run(place)

    assert result.version == 2
    assert not (place.registry / MODEL / "3").exists()


@pytest.mark.slow
def test_a_table_with_somebody_who_was_erased_is_made_again(place: Place) -> None:
    """Killed before training; what is erased until it goes on is not learnt from."""
    with pytest.raises(Killed):
        run(place, killed_after("table"))
    customer = place.records[0].request.customer_id
    erase(
        log_directory(place.settings, DECISIONS),
        lambda body: decode_head(body).customer_id == customer,
        actor="dpo:1",
        reason="asked",
        now_ms=retrained.UNTIL_MS,
    )

    result = run(place)

    assert result.table["erased_records"] == 1
    assert result.table["customers"] < len({r.request.customer_id for r in place.records})


def test_who_was_erased_is_not_learnt_from(place: Place) -> None:
    """By the register alone, should a record have been logged after the logs were gone through."""
    erased = ErasedCustomers(log_directory(place.settings, ERASED))
    scored = next(r for r in place.records if _has_target(r))
    erased.add(scored.request.customer_id, actor="dpo:1", reason="asked", now_ms=1)

    with pytest.raises(Killed):
        run(place, killed_after("table"))

    (journal,) = place.runs.glob("*/journal.json")
    table = json.loads(journal.read_text())["steps"]["table"]
    assert table["left_out"]["of customers who were erased"] == 1


def _has_target(record: DecisionRecord) -> bool:
    return any(a.priority.propensity_source == "model" for a in record.decision.actions)


def test_too_few_outcomes_are_a_refusal_with_figures(place: Place) -> None:
    """What there is, what is asked for, and what to do; nothing is left behind."""
    with pytest.raises(LearntFromRefused, match=r"answers .* `decisions.min_outcomes` is 50,000") as refused:
        run(place, decisions={"min_outcomes": 50_000})

    assert "Wait for more" in str(refused.value)
    assert list(place.runs.glob("*/table")) == []


@pytest.mark.slow
def test_a_gate_that_refuses_keeps_the_model_out_of_the_registry(place: Place) -> None:
    """Looser limits let the same candidate pass: it is judged again, not trained again."""
    limits = place.registry / MODEL / "gates.toml"
    lenient = limits.read_text()
    limits.write_text(lenient.replace("ece = 1.0", "ece = 0.0"))
    with pytest.raises(ModelRefused, match="calibration failed"):
        run(place)
    assert not (place.registry / MODEL / "2").exists()
    limits.write_text(lenient)
    steps: list[str] = []

    run(place, steps.append)

    assert steps == ["gates", "register", "challenger", "end"]


def test_what_the_plan_refuses_is_not_trained_again(place: Place) -> None:
    """The same rows give the same model: the second run says so at once."""
    strict = {"auc_at_least": 1.0}
    with pytest.raises(ModelRefused, match="AUC at least"):
        run(place, gates=strict)

    with pytest.raises(ModelRefused, match="as found before"):
        run(place, gates=strict)

    assert list(place.runs.glob("*/table")) == []


@pytest.mark.slow
def test_only_an_automatic_plan_makes_a_champion(place: Place) -> None:
    """And only where every gate is passed, or switched off by the company."""
    result = run(place, approve="automatic")

    aliases = read_aliases(place.registry, MODEL)
    assert result.promoted
    assert aliases.aliases["champion"] == 2
    assert aliases.history[-1].actor == "arbiter retrain"


@pytest.mark.slow
def test_a_challenger_with_customers_keeps_its_alias(place: Place) -> None:
    """The version is registered; when the rollout is over, the run goes on."""
    run(place, seed=2)
    promote(place.registry, MODEL, 2, alias="challenger", reason="test")
    start(place.registry, MODEL, 2, steps=[Step(percent=5)], reason="test", actor="test")

    with pytest.raises(ChallengerBusy, match="propensity/3 is registered"):
        run(place)

    assert read_aliases(place.registry, MODEL).aliases["challenger"] == 2


def test_two_runs_are_never_at_work_at_once(place: Place) -> None:
    """The second is told so; the lock goes with its process."""
    with only_run(place.runs), pytest.raises(RunUnderway, match="another process"), only_run(place.runs):
        pytest.fail("both are at work")

    with only_run(place.runs):
        pass


@pytest.mark.slow
def test_properties_of_actions_are_learnt_from(place: Place) -> None:
    """Those of the catalogue, as the manifest gives them to the server."""
    task = {"kind": "propensity", "horizon_days": 7, "action_features": ["value", "cost"]}
    run(place, task=task, seed=2)  # split by seed 1, so few answers teach no tree anything: refused, rightly

    manifest = open_version(place.registry, MODEL, 2).manifest
    assert {i.name for i in manifest.inputs if i.source == "action"} == {"action.value", "action.cost"}
