"""`arbiter models rollout`, `status` and `shadow-report`: what people type, and what they read."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rollout_company import MODEL, decide, follower_of, leader_of
from rollout_models import publish_broken, publish_shifted
from typer.testing import CliRunner, Result

from engine import logs
from engine.bootstrap import Application
from engine.cli.app import app
from engine.settings import Settings
from model_registry import promote
from model_registry.aliases import CHALLENGER, SHADOW

Run = Callable[..., Result]


@pytest.fixture
def run(settings: Settings, registry: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs `arbiter models ...` on the registry and the data directory of the test."""
    monkeypatch.setattr(logs, "configure", lambda level: None)
    monkeypatch.setenv("ARBITER_REGISTRY", str(registry))
    monkeypatch.setenv("ARBITER_DATA_DIR", str(settings.data_dir))
    return lambda *words: CliRunner().invoke(app, ["models", *words])


@pytest.fixture
def challenger(registry: Path) -> int:
    """A version that passed the gates and is the challenger."""
    version = publish_shifted(registry, MODEL, by=0.2)
    promote(registry, MODEL, version, alias=CHALLENGER, reason="a test")
    return version


def document(result: Result) -> Any:
    """The JSON that a command printed."""
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_a_rollout_from_start_to_abort(run: Run, challenger: int) -> None:
    """Each command says where the rollout is then, and the history keeps who and why."""
    begun = document(
        run("rollout", "start", MODEL, str(challenger), "--steps", "2.5,10:500,100:2000:24",
            "--decisions", "100", "--hours", "0.5", "--reason", "new features", "--actor", "ada", "--json")
    )  # fmt: skip
    paused = run("rollout", "pause", MODEL, "--reason", "holiday", "--actor", "ada")
    resumed = run("rollout", "resume", MODEL, "--reason", "back", "--actor", "bob")
    aborted = document(run("rollout", "abort", MODEL, "--reason", "wrong model", "--actor", "bob", "--json"))

    plan = [(s["percent"], s["decisions"], s["hours"]) for s in begun["steps"]]
    assert plan == [(2.5, 100, 0.5), (10, 500, 0.5), (100, 2000, 24)]
    assert (begun["percent"], begun["state"], begun["champion"]) == (2.5, "running", 1)
    assert f"{MODEL}/2 is paused at 2.5 % of customers, beside champion 1" in paused.stdout
    assert f"{MODEL}/2 is running at 2.5 %" in resumed.stdout
    assert (aborted["state"], aborted["percent"]) == ("rolled_back", 0)
    assert [(c["kind"], c["actor"], c["reason"]) for c in aborted["changes"]] == [
        ("start", "ada", "new features"), ("pause", "ada", "holiday"), ("resume", "bob", "back"),
        ("roll_back", "bob", "wrong model"),
    ]  # fmt: skip


def test_status_tells_what_was_seen_of_both_arms(run: Run, challenger: int, at_work: Application) -> None:
    """As figures for machines, and in words for people."""
    run("rollout", "start", MODEL, str(challenger), "--steps", "50,100", "--reason", "a test")
    follower_of(at_work).look()
    for number in range(1, 41):
        decide(at_work, f"C{number:04d}")
    leader_of(at_work).tick()

    (told,) = document(run("rollout", "status", "--json"))
    words = run("rollout", "status", MODEL).stdout

    arms = told["seen"]["0"]
    assert arms["champion"]["decisions"] + arms["challenger"]["decisions"] == 40
    assert arms["challenger"]["latency_p95_ms"] > 0
    assert told["evidence"] == 1.0
    assert f"{MODEL}/{challenger} is running at 50 % of customers" in words
    assert "evidence that people accept less: 1.00; it goes back at 100" in words
    assert "a test" in words


def test_without_a_rollout_there_is_nothing_to_tell_or_move(run: Run) -> None:
    """A hint says how one begins."""
    assert "no rollout yet" in run("rollout", "status").stdout
    assert document(run("rollout", "status", "--json")) == []
    moved = run("rollout", "pause", MODEL, "--reason", "a test")
    assert moved.exit_code == 3
    assert "arbiter models rollout start" in " ".join(moved.stderr.split())


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--steps", "5,1"], "shares of steps must grow"),
        (["--steps", "5,1000"], "percent"),
        (["--steps", "five"], "could not convert"),
        (["--steps", "5:1:2:3"], "more than PERCENT:DECISIONS:HOURS"),
        (["--latency-ratio", "0.5"], "latency_ratio"),
        (["--force"], "--force needs --actor"),
    ],
)
def test_a_plan_that_makes_no_sense_is_refused(
    run: Run, challenger: int, options: list[str], told: str
) -> None:
    """With what is wrong, and nothing began."""
    result = run("rollout", "start", MODEL, str(challenger), "--reason", "a test", *options)

    assert result.exit_code == 3
    assert told in " ".join(result.stderr.split())
    assert document(run("rollout", "status", "--json")) == []


def test_a_version_that_gates_refuse_gets_no_customers(run: Run, registry: Path) -> None:
    """Unless somebody says who they are."""
    version = str(publish_broken(registry, MODEL))

    refused = run("rollout", "start", MODEL, version, "--reason", "a test")
    forced = run("rollout", "start", MODEL, version, "--reason", "a test", "--force", "--actor", "ada")

    assert refused.exit_code == 3
    assert f"version {version} does not pass" in " ".join(refused.stderr.split())
    assert forced.exit_code == 0


def test_a_version_that_went_back_needs_somebody_to_say_again(run: Run, challenger: int) -> None:
    """The refusal tells when and why it went back."""
    begin = ["rollout", "start", MODEL, str(challenger), "--reason", "a test"]
    run(*begin)
    run("rollout", "abort", MODEL, "--reason", "too slow", "--actor", "ada")

    refused, again = run(*begin), run(*begin, "--again")

    assert refused.exit_code == 3
    assert "too slow" in " ".join(refused.stderr.split())
    assert again.exit_code == 0


def test_status_tells_which_process_scores_with_what(
    run: Run, challenger: int, at_work: Application, registry: Path
) -> None:
    """And what it refuses, with the cause."""
    run("rollout", "start", MODEL, str(challenger), "--steps", "5", "--reason", "a test")
    promote(registry, "churn", publish_broken(registry, "churn"), reason="a test")
    before = run("status").stdout
    follower_of(at_work).look()

    (server,) = document(run("status", "--json"))
    words = " ".join(run("status").stdout.split())

    assert "no server runs on" in before
    assert server["models"] == {"churn": 1, MODEL: 1}
    assert server["percents"] == {f"{MODEL}/{challenger}": 5.0}
    assert "does not reproduce" in server["refused"]["churn/2"]
    assert "churn/1" in words


def test_a_shadow_report_for_people_and_for_machines(run: Run, at_work: Application, registry: Path) -> None:
    """Before anything was scored, it says so."""
    before = run("shadow-report", MODEL)
    promote(registry, MODEL, publish_shifted(registry, MODEL, by=0.5), alias=SHADOW, reason="a test")
    follower_of(at_work).look()
    with at_work.model_shadow:
        for number in range(1, 31):
            decide(at_work, f"C{number:04d}")

    (told,) = document(run("shadow-report", MODEL, "--json"))
    words = run("shadow-report", MODEL, "--version", "2").stdout

    assert f"{MODEL}: no decision was scored in the shadow" in before.stdout
    assert (told["model"], told["shadow"], told["beside"]) == (MODEL, 2, [1])
    assert 0 < told["decisions"] <= 30
    assert all(score["mean"] > 0 for score in told["scores"].values())
    assert f"{MODEL}/2 beside 1" in words
    assert "another first action in" in words
    assert document(run("shadow-report", MODEL, "--version", "9", "--json")) == []
